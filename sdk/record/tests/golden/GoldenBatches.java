// Writes batches with Apache Kafka's own code, and reads ours with it. See README.md.

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.ControlRecordType;
import org.apache.kafka.common.record.internal.EndTransactionMarker;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.MemoryRecordsBuilder;
import org.apache.kafka.common.record.internal.MutableRecordBatch;
import org.apache.kafka.common.record.internal.Record;
import org.apache.kafka.common.record.internal.RecordBatch;

public final class GoldenBatches {
    private static final int RECORDS = 20;
    private static final long BASE_OFFSET = 42;

    public static void main(String[] args) throws Exception {
        Path dir = Path.of(args[1]);
        switch (args[0]) {
            case "write" -> write(dir);
            case "read" -> read(dir);
            default -> throw new IllegalArgumentException(args[0]);
        }
    }

    private static void write(Path dir) throws Exception {
        for (String codec : new String[] {"none", "gzip", "snappy", "lz4", "zstd"}) {
            save(dir, "java-" + codec, build(Compression.of(codec).build(), TimestampType.CREATE_TIME));
        }
        // The largest window that a producer can be told to use.
        save(dir, "java-zstd-22", build(Compression.zstd().level(22).build(), TimestampType.CREATE_TIME));
        save(dir, "java-append-time", build(Compression.NONE, TimestampType.LOG_APPEND_TIME));
        for (ControlRecordType type : new ControlRecordType[] {ControlRecordType.ABORT, ControlRecordType.COMMIT}) {
            EndTransactionMarker marker = new EndTransactionMarker(type, 9);
            MemoryRecords records = MemoryRecords.withEndTransactionMarker(
                BASE_OFFSET, timestamp(0), 3, 4000L, (short) 2, marker);
            save(dir, "java-" + type.name().toLowerCase(), records);
        }
    }

    private static MemoryRecords build(Compression compression, TimestampType timestampType) {
        MemoryRecordsBuilder builder = new MemoryRecordsBuilder(
            ByteBuffer.allocate(1 << 16), RecordBatch.MAGIC_VALUE_V2, compression, timestampType, BASE_OFFSET,
            timestampType == TimestampType.LOG_APPEND_TIME ? timestamp(100) : RecordBatch.NO_TIMESTAMP,
            4000L, (short) 2, 17, false, false, 3, 1 << 16);
        for (int i = 0; i < RECORDS; i++) {
            builder.append(timestamp(i), key(i), value(i), headers(i));
        }
        return builder.build();
    }

    private static void read(Path dir) throws Exception {
        try (var files = Files.list(dir)) {
            for (Path file : files.sorted().toList()) {
                MemoryRecords records = MemoryRecords.readableRecords(ByteBuffer.wrap(Files.readAllBytes(file)));
                int batches = 0;
                for (MutableRecordBatch batch : records.batches()) {
                    batch.ensureValid();
                    batches++;
                    if (batch.isControlBatch()) {
                        Record record = batch.iterator().next();
                        EndTransactionMarker marker = EndTransactionMarker.deserialize(record);
                        check(marker.coordinatorEpoch() == 9, file);
                        check(marker.controlType().name().toLowerCase().equals(name(file)), file);
                    } else {
                        check(batch.compressionType().name.equals(name(file)), file);
                        check(batch.producerId() == 4000 && batch.baseSequence() == 17, file);
                        readRecords(batch, file);
                    }
                }
                check(batches == 1, file);
                System.out.println("ok " + file.getFileName());
            }
        }
    }

    private static void readRecords(RecordBatch batch, Path file) {
        int i = 0;
        for (Record record : batch) {
            check(record.offset() == BASE_OFFSET + i && record.timestamp() == timestamp(i), file);
            check(Arrays.equals(bytes(record.key()), key(i)), file);
            check(Arrays.equals(bytes(record.value()), value(i)), file);
            check(Arrays.equals(record.headers(), headers(i)), file);
            i++;
        }
        check(i == RECORDS, file);
    }

    // The Rust test computes the same.

    private static long timestamp(int i) {
        return 1_700_000_000_000L + (i == 3 ? -5 : (long) i * i);
    }

    private static byte[] key(int i) {
        return i % 4 == 0 ? null : ("key-" + i).getBytes(StandardCharsets.UTF_8);
    }

    private static byte[] value(int i) {
        if (i % 5 == 0) {
            return null;
        }
        String value = i % 7 == 3 ? ("line " + i + "; ").repeat(1000) : "value-" + i;
        return value.getBytes(StandardCharsets.UTF_8);
    }

    private static Header[] headers(int i) {
        Header[] headers = {new RecordHeader("h0", (byte[]) null), new RecordHeader("h1", new byte[] {(byte) 0xff, (byte) i})};
        return Arrays.copyOf(headers, i % 3);
    }

    private static byte[] bytes(ByteBuffer buffer) {
        if (buffer == null) {
            return null;
        }
        byte[] bytes = new byte[buffer.remaining()];
        buffer.duplicate().get(bytes);
        return bytes;
    }

    private static String name(Path file) {
        return file.getFileName().toString().replace(".bin", "");
    }

    private static void check(boolean holds, Path file) {
        if (!holds) {
            throw new IllegalStateException(file.toString());
        }
    }

    private static void save(Path dir, String name, MemoryRecords records) throws Exception {
        byte[] bytes = new byte[records.sizeInBytes()];
        records.buffer().duplicate().get(bytes);
        Files.write(dir.resolve(name + ".bin"), bytes);
    }
}
