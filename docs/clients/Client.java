import java.time.Duration;
import java.util.List;
import java.util.Properties;
import java.util.UUID;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Send an event to driftline and follow what it recommends, with Kafka's own client.
 *
 * <pre>
 * java -cp 'libs/*' Client.java localhost:9092 send USER ITEM
 * java -cp 'libs/*' Client.java localhost:9092 follow COUNT
 * </pre>
 *
 * {@code libs}: kafka-clients and what it needs (lz4-java, snappy-java, zstd-jni, slf4j-api). A real program would make
 * and read JSON with a library.
 */
public final class Client {
    private static final String PREFIX = System.getenv().getOrDefault("DRIFTLINE_TOPIC_PREFIX", "");

    public static void main(String[] arguments) throws Exception {
        if (arguments[1].equals("send")) {
            send(arguments[0], arguments[2], arguments[3]);
        } else {
            follow(arguments[0], Integer.parseInt(arguments[2]));
        }
    }

    static void send(String servers, String user, String item) throws Exception {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", servers);
        settings.put("acks", "all");
        settings.put("enable.idempotence", true);
        String event = String.format(
                "{\"kind\":\"interaction\",\"user\":\"%s\",\"item\":\"%s\",\"action\":\"click\",\"time\":%d,\"id\":\"%s\"}",
                user, item, System.currentTimeMillis(), UUID.randomUUID());
        try (KafkaProducer<String, String> producer =
                new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            // The key is the user: it decides the partition, and with it the order.
            RecordMetadata sent = producer.send(new ProducerRecord<>(PREFIX + "events", user, event)).get();
            System.out.println("sent " + sent.partition() + "-" + sent.offset());
        }
    }

    static void follow(String servers, int count) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", servers);
        settings.put("group.id", "my-shop-front-java");
        settings.put("isolation.level", "read_committed"); // the default reads what was aborted, too
        settings.put("auto.offset.reset", "earliest");
        try (KafkaConsumer<String, String> consumer =
                new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of(PREFIX + "recommendations"));
            while (count > 0) {
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofSeconds(1))) {
                    System.out.println(record.key() + ": " + (record.value() == null ? "forgotten" : record.value()));
                    count--;
                }
            }
        }
    }
}
