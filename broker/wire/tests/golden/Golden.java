// Writes what Kafka's own Java implementation makes of the messages that this crate reads and
// writes, for tests/golden.rs to compare with. Run it again when a message is added:
//
//     javac -cp "$KAFKA/libs/*" -d OUT Golden.java
//     java -cp "OUT:$KAFKA/libs/*" Golden ../../messages .
//
// messages/NAME.bin holds for each version up to three messages, as version (2 bytes), filling
// (1 byte), length (4 bytes) and body. Fillings: 0 leaves all defaults (and is missing where
// Kafka can't write those), 1 sets every field, 2 sets to null what may be null.
// apis.txt has a line for each version of each API: key, name, version, the version of the
// request's header, of the response's header. errors.txt: code, name, retriable.

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.lang.reflect.ParameterizedType;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.ObjectSerializationCache;
import org.apache.kafka.common.protocol.types.BoundField;
import org.apache.kafka.common.protocol.types.Field;
import org.apache.kafka.common.protocol.types.Schema;
import org.apache.kafka.common.protocol.types.TaggedFields;
import org.apache.kafka.common.protocol.types.Type;
import org.apache.kafka.common.record.internal.BaseRecords;
import org.apache.kafka.common.record.internal.MemoryRecords;

public final class Golden {
    private static final int DEFAULTS = 0;
    private static final int FULL = 1;
    private static final int NULLS = 2;

    private final int filling;
    private int counter = 0;

    private Golden(int filling) {
        this.filling = filling;
    }

    public static void main(String[] arguments) throws Exception {
        Path out = Path.of(arguments[1]);
        List<Path> tables;
        try (var files = Files.list(Path.of(arguments[0]))) {
            tables = files.filter(path -> path.toString().endsWith(".json")).sorted().toList();
        }
        for (Path table : tables) {
            JsonNode json = new ObjectMapper().readTree(table.toFile());
            String name = json.get("name").asText();
            Files.write(out.resolve("messages").resolve(name + ".bin"), messages(name, json));
        }
        Files.writeString(out.resolve("apis.txt"), apis());
        Files.writeString(out.resolve("errors.txt"), errors());
    }

    private static byte[] messages(String name, JsonNode json) throws Exception {
        Class<?> type = messageClass(name);
        Schema[] schemas = (Schema[]) type.getField("SCHEMAS").get(null);
        String[] bounds = json.get("validVersions").asText().split("-");
        var bytes = new ByteArrayOutputStream();
        var out = new DataOutputStream(bytes);
        for (int version = Integer.parseInt(bounds[0]);
                version <= Integer.parseInt(bounds[bounds.length - 1]); version++) {
            for (int filling = DEFAULTS; filling <= NULLS; filling++) {
                Object message = type.getConstructor().newInstance();
                if (filling != DEFAULTS) {
                    new Golden(filling).fill(message, schemas[version]);
                }
                byte[] body;
                try {
                    body = serialize((Message) message, (short) version);
                } catch (NullPointerException exception) {
                    if (filling == DEFAULTS) {
                        continue;
                    }
                    throw exception;
                }
                out.writeShort(version);
                out.writeByte(filling);
                out.writeInt(body.length);
                out.write(body);
            }
        }
        return bytes.toByteArray();
    }

    private static Class<?> messageClass(String name) throws ClassNotFoundException {
        for (String candidate : List.of(
                "org.apache.kafka.common.message." + name + "Data",
                "org.apache.kafka.common.message." + name,
                "org.apache.kafka.coordinator.group.generated." + name)) {
            try {
                return Class.forName(candidate);
            } catch (ClassNotFoundException exception) {
                // The next package may have it.
            }
        }
        throw new ClassNotFoundException(name);
    }

    private static byte[] serialize(Message message, short version) {
        var cache = new ObjectSerializationCache();
        ByteBuffer buffer = ByteBuffer.allocate(message.size(cache, version));
        message.write(new ByteBufferAccessor(buffer), cache, version);
        return buffer.array();
    }

    private void fill(Object message, Schema schema) throws Exception {
        for (BoundField field : schema.fields()) {
            if (field.def.type instanceof TaggedFields tagged) {
                for (Field inner : tagged.fields().values()) {
                    set(message, inner);
                }
            } else {
                set(message, field.def);
            }
        }
    }

    private void set(Object message, Field field) throws Exception {
        String wanted = field.name.replace("_", "");
        for (java.lang.reflect.Field candidate : message.getClass().getDeclaredFields()) {
            if (candidate.getName().equalsIgnoreCase(wanted)) {
                candidate.setAccessible(true);
                candidate.set(message, value(candidate.getGenericType(), field.type));
                return;
            }
        }
        throw new NoSuchFieldException(message.getClass() + "." + field.name);
    }

    private Object value(java.lang.reflect.Type javaType, Type type) throws Exception {
        if (filling == NULLS && type.isNullable()) {
            return null;
        }
        if (type.arrayElementType().isPresent()) {
            return collection(javaType, type.arrayElementType().get());
        }
        if (type instanceof Schema schema) {
            Object struct = ((Class<?>) javaType).getConstructor().newInstance();
            fill(struct, schema);
            return struct;
        }
        return scalar((Class<?>) javaType);
    }

    private Object collection(java.lang.reflect.Type javaType, Type elementType) throws Exception {
        Collection<Object> collection;
        ParameterizedType parameterized;
        if (javaType instanceof ParameterizedType list) {
            collection = new ArrayList<>();
            parameterized = list;
        } else {
            @SuppressWarnings("unchecked")
            Collection<Object> own = (Collection<Object>) ((Class<?>) javaType).getConstructor().newInstance();
            collection = own;
            parameterized = (ParameterizedType) ((Class<?>) javaType).getGenericSuperclass();
        }
        for (int index = 0; index < (filling == FULL ? 2 : 1); index++) {
            collection.add(value(parameterized.getActualTypeArguments()[0], elementType));
        }
        return collection;
    }

    private Object scalar(Class<?> javaType) {
        counter++;
        if (javaType == boolean.class) {
            return true;
        } else if (javaType == byte.class || javaType == Byte.class) {
            return (byte) -counter;
        } else if (javaType == short.class || javaType == Short.class) {
            return (short) (counter * 257);
        } else if (javaType == int.class || javaType == Integer.class) {
            return counter * 16843009;
        } else if (javaType == long.class || javaType == Long.class) {
            return counter * -72340172838076673L;
        } else if (javaType == double.class) {
            return counter / 3.0;
        } else if (javaType == Uuid.class) {
            return new Uuid(counter, ~counter);
        } else if (javaType == String.class) {
            // Every seventh is so long that its compact length takes two bytes.
            return ("\u00e9-" + counter).repeat(counter % 7 == 0 ? 40 : 1);
        } else if (javaType == byte[].class) {
            return bytes();
        } else if (javaType == ByteBuffer.class) {
            return ByteBuffer.wrap(bytes());
        } else if (BaseRecords.class.isAssignableFrom(javaType)) {
            return MemoryRecords.readableRecords(ByteBuffer.wrap(bytes()));
        }
        throw new IllegalArgumentException(javaType.toString());
    }

    private byte[] bytes() {
        byte[] bytes = new byte[counter % 5 == 0 ? 200 : 3];
        java.util.Arrays.fill(bytes, (byte) counter);
        return bytes;
    }

    private static String apis() {
        var lines = new StringBuilder();
        for (ApiMessageType api : ApiMessageType.values()) {
            for (short version = api.lowestSupportedVersion(); version <= api.highestSupportedVersion(false); version++) {
                lines.append(String.format("%d %s %d %d %d%n", api.apiKey(), api.name, version,
                    api.requestHeaderVersion(version), api.responseHeaderVersion(version)));
            }
        }
        return lines.toString();
    }

    private static String errors() {
        var lines = new StringBuilder();
        for (Errors error : Errors.values()) {
            lines.append(String.format("%d %s %b%n", error.code(), error.name(),
                error.exception() instanceof RetriableException));
        }
        return lines.toString();
    }
}
