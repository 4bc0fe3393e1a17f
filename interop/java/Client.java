import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.StringJoiner;
import java.util.TreeMap;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Future;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import java.util.stream.Collectors;

import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.ApiException;
import org.apache.kafka.common.errors.InvalidProducerEpochException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** The client program of interop/README.md, with Apache Kafka's Java clients. */
public class Client {
    /** What the records that it produces say of their client. */
    private static final String NAME = System.getProperty("client", "java");

    public static void main(String[] words) throws Exception {
        String bootstrap = words[1];
        String topic = words[2];
        switch (words[0]) {
            case "create" -> create(bootstrap, topic, Integer.parseInt(words[3]));
            case "delete" -> delete(bootstrap, topic);
            case "produce" -> produce(bootstrap, topic, words);
            case "member" -> member(bootstrap, topic, words[3], "classic", words.length > 4 ? words[4] : null, "read_uncommitted");
            case "committed-member" -> member(bootstrap, topic, words[3], "classic", null, "read_committed");
            case "consumer-member" -> member(bootstrap, topic, words[3], "consumer", words.length > 4 ? words[4] : null, "read_uncommitted");
            case "copy" -> copy(bootstrap, topic, words, "classic");
            case "consumer-copy" -> copy(bootstrap, topic, words, "consumer");
            case "offsets" -> offsets(bootstrap, topic, Long.parseLong(words[3]));
            case "fill" -> fill(bootstrap, topic, Path.of(words[3]));
            case "drain" -> drain(bootstrap, topic, Long.parseLong(words[3]));
            default -> throw new IllegalArgumentException(words[0]);
        }
    }

    private static void create(String bootstrap, String topic, int partitions) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1))).all().get();
        }
    }

    private static void delete(String bootstrap, String topic) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            admin.deleteTopics(List.of(topic)).all().get();
        }
    }

    private static void produce(String bootstrap, String topic, String[] words) throws Exception {
        long number = Long.parseLong(words[3]);
        long count = Long.parseLong(words[4]);
        long epoch = Long.parseLong(words[5]);
        for (int at = 6; at < words.length; at++) {
            String codec = words[at];
            Properties configs = new Properties();
            configs.put("bootstrap.servers", bootstrap);
            configs.put("compression.type", codec);
            configs.put("linger.ms", "5");
            try (var producer = new KafkaProducer<>(configs, new StringSerializer(), new StringSerializer())) {
                List<Future<RecordMetadata>> acknowledgements = new ArrayList<>();
                for (long end = number + count; number < end; number++) {
                    String key = number % 10 == 9 ? null : "key-" + number % 20;
                    String value = "value-" + number + "-" + "x".repeat((int) (number % 100));
                    var record = new ProducerRecord<>(topic, null, epoch + number, key, value);
                    record.headers().add("codec", codec.getBytes(StandardCharsets.UTF_8)).add("client", NAME.getBytes(StandardCharsets.UTF_8));
                    acknowledgements.add(producer.send(record));
                }
                for (var acknowledgement : acknowledgements) {
                    acknowledgement.get();
                }
            }
        }
    }

    private static void member(String bootstrap, String topic, String group, String protocol, String instance, String isolation)
            throws Exception {
        Properties configs = membership(bootstrap, group, protocol, instance);
        configs.put("isolation.level", isolation);
        try (var consumer = new KafkaConsumer<>(configs, new StringDeserializer(), new StringDeserializer())) {
            wakeAtStop(consumer);
            consumer.subscribe(List.of(topic), new Assignments(consumer));
            while (true) {
                var records = consumer.poll(Duration.ofSeconds(1));
                records.forEach(Client::print);
                if (!records.isEmpty()) {
                    consumer.commitSync();
                }
            }
        } catch (WakeupException stopped) {
            // Closing the consumer has left the group.
        }
    }

    private static Properties membership(String bootstrap, String group, String protocol, String instance) {
        Properties configs = new Properties();
        configs.put("bootstrap.servers", bootstrap);
        configs.put("group.id", group);
        configs.put("group.protocol", protocol);
        configs.put("auto.offset.reset", "earliest");
        configs.put("enable.auto.commit", "false");
        if (protocol.equals("classic")) {
            configs.put("session.timeout.ms", "10000");
            configs.put("heartbeat.interval.ms", "500");
        }
        if (instance != null) {
            configs.put("group.instance.id", instance);
        }
        return configs;
    }

    /** Copies a topic to another in transactions, every third of which it aborts, and does again. */
    private static void copy(String bootstrap, String source, String[] words, String protocol) throws Exception {
        String target = words[3];
        String id = words[5];
        boolean pause = words.length > 6;
        Properties reading = membership(bootstrap, words[4], protocol, protocol.equals("classic") ? id : null);
        reading.put("isolation.level", "read_committed");
        reading.put("max.poll.records", "20");
        if (protocol.equals("classic")) {
            // Not by time is it to be replaced, but by its successor; a restart of the broker may take a while.
            reading.put("session.timeout.ms", "60000");
        }
        Map<String, Object> writing = Map.of("bootstrap.servers", bootstrap, "transactional.id", id, "transaction.timeout.ms", "300000");
        BlockingQueue<String> orders = orders();
        try (var consumer = new KafkaConsumer<>(reading, new StringDeserializer(), new StringDeserializer());
             var producer = new KafkaProducer<>(writing, new StringSerializer(), new StringSerializer())) {
            producer.initTransactions();
            consumer.subscribe(List.of(source));
            for (int number = 1; !"stop".equals(orders.peek());) {
                var records = consumer.poll(Duration.ofMillis(100));
                if (records.isEmpty()) {
                    continue;
                }
                producer.beginTransaction();
                Map<TopicPartition, Long> first = new HashMap<>();
                Map<TopicPartition, OffsetAndMetadata> next = new HashMap<>();
                for (var record : records) {
                    TopicPartition partition = new TopicPartition(source, record.partition());
                    first.putIfAbsent(partition, record.offset());
                    next.put(partition, new OffsetAndMetadata(record.offset() + 1));
                    producer.send(new ProducerRecord<>(target, record.partition(), record.timestamp(), record.key(), record.value(), record.headers()));
                }
                producer.sendOffsetsToTransaction(next, consumer.groupMetadata());
                if (pause) {
                    producer.flush();
                    System.out.println("open");
                    orders.take();
                    pause = false;
                }
                if (number++ % 3 == 0) {
                    producer.abortTransaction();
                    first.forEach(consumer::seek);
                    System.out.println("aborted");
                } else {
                    producer.commitTransaction();
                    System.out.println("committed");
                }
            }
        } catch (ApiException error) {
            if (!(error instanceof ProducerFencedException) && !(error instanceof InvalidProducerEpochException)) {
                throw error;
            }
            System.out.println("fenced");
        }
    }

    private static BlockingQueue<String> orders() {
        BlockingQueue<String> orders = new LinkedBlockingQueue<>();
        Thread thread = new Thread(() -> new BufferedReader(new InputStreamReader(System.in)).lines().forEach(orders::add));
        thread.setDaemon(true);
        thread.start();
        return orders;
    }

    private record Assignments(Consumer<?, ?> consumer) implements ConsumerRebalanceListener {
        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> added) {
            say(List.of());
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> removed) {
            say(removed);
        }

        private void say(Collection<TopicPartition> removed) {
            System.out.println("assigned " + consumer.assignment().stream().filter(has -> !removed.contains(has))
                .map(TopicPartition::partition).sorted().map(String::valueOf).collect(Collectors.joining(" ")));
        }
    }

    private static void wakeAtStop(Consumer<?, ?> consumer) {
        Thread thread = new Thread(() -> {
            try {
                new BufferedReader(new InputStreamReader(System.in)).readLine();
            } catch (java.io.IOException closed) {
                // As good as a line.
            }
            consumer.wakeup();
        });
        thread.setDaemon(true);
        thread.start();
    }

    private static void print(ConsumerRecord<String, String> record) {
        StringJoiner headers = new StringJoiner(",");
        for (Header header : record.headers()) {
            headers.add(header.key() + "=" + new String(header.value(), StandardCharsets.UTF_8));
        }
        String key = record.key() == null ? "NULL" : record.key();
        System.out.println("record\t" + record.partition() + "\t" + record.offset() + "\t" + record.timestamp() + "\t"
            + key + "\t" + record.value() + "\t" + headers);
    }

    private static void offsets(String bootstrap, String topic, long timestamp) {
        Map<String, Object> configs = Map.of("bootstrap.servers", bootstrap);
        try (var consumer = new KafkaConsumer<>(configs, new StringDeserializer(), new StringDeserializer())) {
            Map<TopicPartition, Long> query = new HashMap<>();
            consumer.partitionsFor(topic).forEach(info -> query.put(new TopicPartition(topic, info.partition()), timestamp));
            Map<TopicPartition, Long> earliest = consumer.beginningOffsets(query.keySet());
            Map<TopicPartition, Long> latest = consumer.endOffsets(query.keySet());
            Map<Integer, String> lines = new TreeMap<>();
            consumer.offsetsForTimes(query).forEach((partition, found) -> lines.put(partition.partition(),
                earliest.get(partition) + " " + latest.get(partition) + " " + offset(found)));
            lines.forEach((partition, line) -> System.out.println(partition + " " + line));
        }
    }

    private static long offset(OffsetAndTimestamp found) {
        return found == null ? -1 : found.offset();
    }

    /** Produces each line of a file as a record to a topic's only partition, and prints now and then how many were acknowledged. */
    private static void fill(String bootstrap, String topic, Path file) throws Exception {
        create(bootstrap, topic, 1);
        Properties configs = new Properties();
        configs.put("bootstrap.servers", bootstrap);
        configs.put("linger.ms", "20");
        configs.put("batch.size", "131072");
        configs.put("compression.type", "lz4");
        var acknowledged = new AtomicLong();
        var failure = new AtomicReference<Exception>();
        try (var bytes = new BufferedInputStream(Files.newInputStream(file), 1 << 20);
             var producer = new KafkaProducer<>(configs, new ByteArraySerializer(), new ByteArraySerializer())) {
            var line = new ByteArrayOutputStream();
            for (int next = bytes.read(); next >= 0 && failure.get() == null; next = bytes.read()) {
                if (next != '\n') {
                    line.write(next);
                    continue;
                }
                producer.send(new ProducerRecord<>(topic, line.toByteArray()), (metadata, error) -> {
                    if (error != null) {
                        failure.set(error);
                    } else if (acknowledged.incrementAndGet() % 10_000 == 0) {
                        System.out.println(acknowledged.get());
                    }
                });
                line.reset();
            }
            producer.flush();
        }
        if (failure.get() != null) {
            throw failure.get();
        }
        System.out.println(acknowledged.get());
    }

    /** Prints the values of a topic's only partition, a line each, and ends when it has printed as many as there must be. */
    private static void drain(String bootstrap, String topic, long count) throws Exception {
        TopicPartition partition = new TopicPartition(topic, 0);
        Map<String, Object> configs = Map.of("bootstrap.servers", bootstrap);
        try (var out = new BufferedOutputStream(System.out, 1 << 20);
             var consumer = new KafkaConsumer<>(configs, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.assign(List.of(partition));
            consumer.seekToBeginning(List.of(partition));
            long end = consumer.endOffsets(List.of(partition)).get(partition);
            if (end != count) {
                throw new IllegalStateException("the partition ends at " + end + ", not at " + count);
            }
            while (consumer.position(partition) < end) {
                for (var record : consumer.poll(Duration.ofSeconds(1))) {
                    out.write(record.value());
                    out.write('\n');
                }
            }
        }
    }
}
