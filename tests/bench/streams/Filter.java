import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.UncheckedIOException;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Produced;

/** Keeps records whose JSON value has a `status` of 400 or more: `Filter BOOTSTRAP FROM TO THREADS GUARANTEE`. */
public class Filter {
    private static final ObjectMapper JSON = new ObjectMapper();

    public static void main(String[] arguments) {
        var bytes = Serdes.ByteArray();
        var builder = new StreamsBuilder();
        builder.stream(arguments[1], Consumed.with(bytes, bytes))
            .filter((key, value) -> isKept(value))
            .to(arguments[2], Produced.with(bytes, bytes));
        Streams.run(builder, arguments, "filter");
    }

    private static boolean isKept(byte[] value) {
        try {
            return JSON.readTree(value).path("status").asDouble() >= 400;
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }
}
