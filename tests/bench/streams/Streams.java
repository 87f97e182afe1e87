import java.util.Properties;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;

/** Runs a topology as `... BOOTSTRAP FROM TO THREADS at_least_once|exactly_once_v2` asks for. */
final class Streams {
    static void run(StreamsBuilder builder, String[] arguments, String name) {
        var settings = new Properties();
        settings.put("application.id", name + "-" + arguments[2]);
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

    private Streams() {}
}
