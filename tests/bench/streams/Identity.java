import java.util.Properties;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Produced;

/** Copies a topic to another, record by record: `Identity BOOTSTRAP FROM TO THREADS at_least_once|exactly_once_v2`. */
public class Identity {
    public static void main(String[] arguments) {
        var bytes = Serdes.ByteArray();
        var builder = new StreamsBuilder();
        builder.stream(arguments[1], Consumed.with(bytes, bytes))
            .mapValues(value -> value)
            .to(arguments[2], Produced.with(bytes, bytes));
        var settings = new Properties();
        settings.put("application.id", "identity-" + arguments[2]);
        settings.put("bootstrap.servers", arguments[0]);
        settings.put("num.stream.threads", arguments[3]);
        settings.put("processing.guarantee", arguments[4]);
        settings.put("consumer.auto.offset.reset", "earliest");
        // As a stage writes: batches of a size that a broker likes.
        settings.put("producer.linger.ms", "5");
        settings.put("producer.batch.size", "262144");
        var streams = new KafkaStreams(builder.build(), settings);
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
    }
}
