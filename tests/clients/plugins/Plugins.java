// The Java client at an ingest and a view: java Plugins.java BOOTSTRAP CHECKED MASKED

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

public class Plugins {
    static final String GOOD = "{\"amount\":1,\"card\":\"4711\"}", DROPPED = "{\"amount\":-1,\"card\":\"4711\"}";
    static String bootstrap, checked, masked;
    static int passed, failed;

    interface Test { void run() throws Exception; }

    public static void main(String[] arguments) {
        bootstrap = arguments[0];
        checked = arguments[1];
        masked = arguments[2];
        test("a batch with a bad record is refused, and the client hears which and why", Plugins::refused);
        test("offsets are those of what was sent, also behind a dropped record", Plugins::offsets);
        test("a group reads a view, commits, seeks and sees its end", Plugins::view);
        test("a view can't be written to", Plugins::readOnly);
        System.out.println("counts " + passed + " " + failed);
        System.exit(failed);
    }

    static void refused() throws Exception {
        List<String> answers = send(checked, GOOD, "no json", GOOD);
        require(answers.get(1).contains("InvalidRecordException: the value is not JSON"), answers);
        require(answers.get(0).contains("part of a batch"), answers);
        require(answers.get(2).contains("part of a batch"), answers);
    }

    static void offsets() throws Exception {
        List<String> answers = send(checked, GOOD, DROPPED, GOOD);
        long first = Long.parseLong(answers.get(0));
        require(answers.equals(List.of("" + first, "" + (first + 1), "" + (first + 2))), answers);
        require(send(checked, GOOD).equals(List.of("" + (first + 3))), "the next one");
    }

    static void view() throws Exception {
        long first = Long.parseLong(send(checked, GOOD, DROPPED, GOOD).get(0));
        TopicPartition partition = new TopicPartition(masked, 0);
        try (KafkaConsumer<String, String> consumer = consumer()) {
            consumer.subscribe(List.of(masked));
            List<ConsumerRecord<String, String>> records = until(consumer, first + 2);
            List<Long> last = records.stream().map(ConsumerRecord::offset).filter(offset -> offset >= first).toList();
            require(last.equals(List.of(first, first + 2)), last);
            require(records.stream().allMatch(r -> r.value().equals("{\"amount\":1,\"card\":\"***\"}")), records);
            require(consumer.currentLag(partition).getAsLong() == 0, consumer.currentLag(partition));
            consumer.commitSync();
            require(consumer.committed(java.util.Set.of(partition)).get(partition).offset() == first + 3, "committed");
            require(consumer.endOffsets(List.of(partition)).get(partition) == first + 3, "the end");
            consumer.seek(partition, first + 1);
            require(until(consumer, first + 2).get(0).offset() == first + 2, "behind the dropped record");
        }
    }

    static void readOnly() throws Exception {
        String answer = send(masked, GOOD).get(0);
        require(answer.contains("InvalidTopicException") && answer.contains("is a view of another topic"), answer);
    }

    /** In one batch to partition 0: the offset of each record, or why it has none. */
    static List<String> send(String topic, String... values) throws Exception {
        Map<String, Object> config = Map.of("bootstrap.servers", bootstrap, "linger.ms", 500);
        try (var producer = new KafkaProducer<>(config, new StringSerializer(), new StringSerializer())) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (String value : values) sent.add(producer.send(new ProducerRecord<>(topic, 0, null, value)));
            List<String> answers = new ArrayList<>();
            for (Future<RecordMetadata> one : sent) {
                try {
                    answers.add("" + one.get().offset());
                } catch (ExecutionException refused) {
                    answers.add("" + refused.getCause());
                }
            }
            return answers;
        }
    }

    static KafkaConsumer<String, String> consumer() {
        Map<String, Object> config = new HashMap<>(Map.of("bootstrap.servers", bootstrap, "group.id", "" + UUID.randomUUID()));
        config.putAll(Map.of("auto.offset.reset", "earliest", "enable.auto.commit", false));
        return new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer());
    }

    static List<ConsumerRecord<String, String>> until(KafkaConsumer<String, String> consumer, long offset) {
        List<ConsumerRecord<String, String>> records = new ArrayList<>();
        long deadline = System.currentTimeMillis() + 30_000;
        while (records.isEmpty() || records.get(records.size() - 1).offset() < offset) {
            require(System.currentTimeMillis() < deadline, "not within 30 s: " + records);
            consumer.poll(Duration.ofMillis(200)).forEach(records::add);
        }
        return records;
    }

    static void require(boolean holds, Object found) {
        if (!holds) throw new AssertionError(found);
    }

    static void test(String name, Test test) {
        try {
            test.run();
            passed++;
            System.out.println("ok   " + name);
        } catch (Exception | AssertionError error) {
            failed++;
            System.out.println("FAIL " + name + ": " + error);
        }
    }
}
