import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Produced;

/** Copies a topic to another, record by record: `Identity BOOTSTRAP FROM TO THREADS GUARANTEE`. */
public class Identity {
    public static void main(String[] arguments) {
        var bytes = Serdes.ByteArray();
        var builder = new StreamsBuilder();
        builder.stream(arguments[1], Consumed.with(bytes, bytes))
            .mapValues(value -> value)
            .to(arguments[2], Produced.with(bytes, bytes));
        Streams.run(builder, arguments, "identity");
    }
}
