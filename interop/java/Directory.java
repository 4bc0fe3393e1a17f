import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.StringJoiner;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.Future;

import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ListConsumerGroupOffsetsSpec;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.ScramCredentialInfo;
import org.apache.kafka.clients.admin.ScramMechanism;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.admin.UserScramCredentialUpsertion;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.quota.ClientQuotaAlteration;
import org.apache.kafka.common.quota.ClientQuotaEntity;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Fills a cluster of one node with everything that a data directory can hold, and shows what clients see of it, so that the same directory can be
 * compared under two brokers.
 *
 * <ul>
 * <li>{@code fill BOOTSTRAP} makes topics, records, groups and configs; ends in the middle of a transaction.</li>
 * <li>{@code more BOOTSTRAP} writes more records with each codec to the topics there are.</li>
 * <li>{@code show BOOTSTRAP} prints topics, configs, records by both isolation levels, offsets and groups, a line each.</li>
 * </ul>
 */
public class Directory {
    private static final List<String> CODECS = List.of("none", "gzip", "snappy", "lz4", "zstd");
    /** All timestamps are counted from here, so that two shows of one directory are the same text. */
    private static final long EPOCH = System.currentTimeMillis() - 3_600_000;

    private final Map<String, Object> at;
    private final Admin admin;

    public static void main(String[] words) throws Exception {
        Map<String, Object> at = Map.of("bootstrap.servers", words[1]);
        try (Admin admin = Admin.create(at)) {
            Directory directory = new Directory(at, admin);
            switch (words[0]) {
                case "fill" -> directory.fill();
                case "more" -> directory.more();
                case "show" -> directory.show();
                default -> throw new IllegalArgumentException(words[0]);
            }
        }
    }

    private Directory(Map<String, Object> at, Admin admin) {
        this.at = at;
        this.admin = admin;
    }

    private void fill() throws Exception {
        create("codecs", 3, Map.of("retention.ms", "1000000000", "max.message.bytes", "2000000"));
        create("transactions", 2, Map.of("unclean.leader.election.enable", "true"));
        create("compacted", 1, Map.of("cleanup.policy", "compact", "segment.ms", "100", "min.cleanable.dirty.ratio", "0.01",
            "delete.retention.ms", "0"));
        create("both", 1, Map.of("cleanup.policy", "compact,delete", "segment.ms", "100", "min.cleanable.dirty.ratio", "0.01"));
        create("append-time", 1, Map.of("message.timestamp.type", "LogAppendTime"));
        create("shortened", 1, Map.of("segment.bytes", "1048576"));
        create("replaced", 1, Map.of());
        create("unfinished", 1, Map.of());
        create("with.dots_and_underscores", 1, Map.of("compression.type", "gzip", "compression.gzip.level", "9"));
        create("never-written", 5, Map.of());

        for (String codec : CODECS) {
            produce("codecs", codec, 200);
            produce("append-time", codec, 20);
        }
        produce("with.dots_and_underscores", "zstd", 50);
        produce("replaced", "none", 70);
        large("shortened", 3000);
        admin.deleteRecords(Map.of(new TopicPartition("shortened", 0), RecordsToDelete.beforeOffset(2500))).all().get();
        admin.deleteTopics(List.of("replaced")).all().get();
        transactions();
        compacted();
        create("replaced", 2, Map.of());
        produce("replaced", "lz4", 30);
        groups();
        configs();
        awaitCompaction();
        Producer<String, String> unfinished = producer("snappy", "unfinished-transaction");
        unfinished.initTransactions();
        unfinished.beginTransaction();
        unfinished.send(new ProducerRecord<>("unfinished", 0, EPOCH, "k", "open")).get();
        produce("unfinished", "none", 10);
        unfinished.flush();
        // A clean end would abort it.
        System.out.println("filled");
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }

    private void more() throws Exception {
        for (String codec : CODECS) {
            produce("codecs", codec, 100);
            produce("append-time", codec, 10);
            produce("both", codec, 20);
            produce("compacted", codec, 20);
            produce("transactions", codec, 20);
        }
        large("shortened", 3000);
        create("after", 2, Map.of());
        produce("after", "zstd", 100);
        admin.deleteTopics(List.of("replaced")).all().get();
        commit("classic-admin", Map.of(new TopicPartition("codecs", 2), new OffsetAndMetadata(9, "later")));
        alter(ConfigResource.Type.TOPIC, "codecs", Map.of("retention.ms", "2000000000"));
    }

    private void create(String topic, int partitions, Map<String, String> configs) throws Exception {
        admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1).configs(configs))).all().get();
    }

    private Producer<String, String> producer(String codec, String transactionalId) {
        Properties configs = new Properties();
        configs.putAll(at);
        configs.put("compression.type", codec);
        configs.put("linger.ms", "5");
        configs.put("batch.size", "4000");
        if (transactionalId != null) {
            configs.put("transactional.id", transactionalId);
        }
        return new KafkaProducer<>(configs, new StringSerializer(), new StringSerializer());
    }

    private void produce(String topic, String codec, int count) throws Exception {
        try (Producer<String, String> producer = producer(codec, null)) {
            send(producer, topic, codec, count);
        }
    }

    private void send(Producer<String, String> producer, String topic, String prefix, int count) throws Exception {
        List<Future<RecordMetadata>> acknowledgements = new ArrayList<>();
        boolean keys = topic.equals("compacted") || topic.equals("both");
        for (int number = 0; number < count; number++) {
            String key = number % 10 == 9 && !keys ? null : "key-" + number % 20;
            String value = number % 17 == 16 ? null : prefix + "-" + number + "-" + "x".repeat(number % 100);
            var record = new ProducerRecord<>(topic, null, EPOCH + number, key, value);
            record.headers().add("by", prefix.getBytes(StandardCharsets.UTF_8)).add("none", null);
            acknowledgements.add(producer.send(record));
        }
        for (var acknowledgement : acknowledgements) {
            acknowledgement.get();
        }
    }

    /** A thousand bytes a record, so that there are several segments. */
    private void large(String topic, int count) throws Exception {
        try (Producer<String, String> producer = producer("none", null)) {
            for (int number = 0; number < count; number++) {
                producer.send(new ProducerRecord<>(topic, 0, EPOCH + number, "key-" + number, number + "y".repeat(1000)));
            }
        }
    }

    @SuppressWarnings("removal") // Such a producer need not be a member.
    private void transactions() throws Exception {
        try (Producer<String, String> first = producer("lz4", "first"); Producer<String, String> second = producer("none", "second")) {
            first.initTransactions();
            second.initTransactions();
            for (int round = 0; round < 6; round++) {
                first.beginTransaction();
                second.beginTransaction();
                send(first, "transactions", "first-" + round, 30);
                send(second, "transactions", "second-" + round, 10);
                produce("transactions", "zstd", 5);
                send(first, "transactions", "more-" + round, 5);
                String group = "transactional";
                var offsets = Map.of(new TopicPartition("transactions", 0), new OffsetAndMetadata(100 + round, "round " + round));
                second.sendOffsetsToTransaction(offsets, new ConsumerGroupMetadata(group));
                if (round % 2 == 0) {
                    first.commitTransaction();
                    second.abortTransaction();
                } else {
                    second.commitTransaction();
                    first.abortTransaction();
                }
            }
            second.beginTransaction();
            var offsets = Map.of(new TopicPartition("transactions", 1), new OffsetAndMetadata(999, "aborted"));
            second.sendOffsetsToTransaction(offsets, new ConsumerGroupMetadata("transactional"));
            second.abortTransaction();
        }
    }

    private void compacted() throws Exception {
        for (int round = 0; round < 5; round++) {
            try (Producer<String, String> producer = producer(CODECS.get(round), "compacting")) {
                producer.initTransactions();
                producer.beginTransaction();
                send(producer, "compacted", "round-" + round, 100);
                send(producer, "both", "round-" + round, 100);
                if (round == 3) {
                    producer.abortTransaction();
                } else {
                    producer.commitTransaction();
                }
            }
            Thread.sleep(150);
            produce("compacted", "none", 30);
        }
        Thread.sleep(150);
        produce("compacted", "none", 1);
        produce("both", "none", 1);
    }

    private void awaitCompaction() throws Exception {
        long deadline = System.currentTimeMillis() + 30_000;
        while (System.currentTimeMillis() < deadline) {
            int count = 0;
            for (var record : records("compacted", "read_uncommitted")) {
                count++;
            }
            if (count < 100) {
                return;
            }
            Thread.sleep(200);
        }
        throw new IllegalStateException("nothing was compacted");
    }

    private void commit(String group, Map<TopicPartition, OffsetAndMetadata> offsets) throws Exception {
        admin.alterConsumerGroupOffsets(group, offsets).all().get();
    }

    private void groups() throws Exception {
        commit("classic-admin", Map.of(new TopicPartition("codecs", 0), new OffsetAndMetadata(5, "five"),
            new TopicPartition("codecs", 1), new OffsetAndMetadata(6, "")));
        for (String protocol : List.of("classic", "consumer")) {
            Properties configs = new Properties();
            configs.putAll(at);
            configs.put("group.id", "member-" + protocol);
            configs.put("group.protocol", protocol);
            configs.put("auto.offset.reset", "earliest");
            configs.put("enable.auto.commit", "false");
            configs.put("max.poll.records", "100");
            try (var consumer = new KafkaConsumer<>(configs, new StringDeserializer(), new StringDeserializer())) {
                consumer.subscribe(List.of("codecs"));
                int count = 0;
                while (count < 300) {
                    count += consumer.poll(Duration.ofSeconds(1)).count();
                }
                consumer.commitSync();
            }
        }
        alter(ConfigResource.Type.GROUP, "shared", Map.of("share.auto.offset.reset", "earliest"));
        Properties configs = new Properties();
        configs.putAll(at);
        configs.put("group.id", "shared");
        try (var consumer = new KafkaShareConsumer<>(configs, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of("codecs"));
            int count = 0;
            while (count == 0) {
                count += consumer.poll(Duration.ofSeconds(1)).count();
            }
            consumer.commitSync();
        }
        commit("deleted", Map.of(new TopicPartition("codecs", 0), new OffsetAndMetadata(5, "five")));
        admin.deleteConsumerGroups(List.of("deleted")).all().get();
    }

    private void alter(ConfigResource.Type type, String name, Map<String, String> configs) throws Exception {
        var ops = configs.entrySet().stream()
            .map(config -> new AlterConfigOp(new ConfigEntry(config.getKey(), config.getValue()), AlterConfigOp.OpType.SET)).toList();
        admin.incrementalAlterConfigs(Map.of(new ConfigResource(type, name), ops)).all().get();
    }

    private void configs() throws Exception {
        alter(ConfigResource.Type.BROKER, "", Map.of("log.retention.ms", "500000000", "message.max.bytes", "3000000"));
        alter(ConfigResource.Type.BROKER, "1", Map.of("log.cleaner.io.buffer.size", "600000"));
        alter(ConfigResource.Type.TOPIC, "transactions", Map.of("segment.bytes", "2000000"));
        alter(ConfigResource.Type.CLIENT_METRICS, "metrics", Map.of("interval.ms", "5000"));
        var user = new ClientQuotaEntity(Map.of(ClientQuotaEntity.USER, "alice"));
        var everyone = new HashMap<String, String>();
        everyone.put(ClientQuotaEntity.CLIENT_ID, null);
        admin.alterClientQuotas(List.of(
            new ClientQuotaAlteration(user, List.of(new ClientQuotaAlteration.Op("producer_byte_rate", 1e9))),
            new ClientQuotaAlteration(new ClientQuotaEntity(everyone), List.of(new ClientQuotaAlteration.Op("request_percentage", 500.0))))).all().get();
        admin.alterUserScramCredentials(List.of(new UserScramCredentialUpsertion("alice",
            new ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096), "secret"))).all().get();
    }

    private void show() throws Exception {
        Set<String> names = new TreeSet<>(admin.listTopics().names().get());
        names.removeIf(name -> name.startsWith("__"));
        for (TopicDescription topic : new TreeMap<>(admin.describeTopics(names).allTopicNames().get()).values()) {
            System.out.println("topic " + topic.name() + " " + topic.topicId() + " partitions " + topic.partitions().size());
        }
        List<ConfigResource> resources = new ArrayList<>(names.stream().map(name -> new ConfigResource(ConfigResource.Type.TOPIC, name)).toList());
        resources.add(new ConfigResource(ConfigResource.Type.BROKER, ""));
        resources.add(new ConfigResource(ConfigResource.Type.BROKER, "1"));
        var configs = admin.describeConfigs(resources).all().get();
        for (ConfigResource resource : resources) {
            List<ConfigEntry> entries = new ArrayList<>(configs.get(resource).entries());
            entries.sort((left, right) -> left.name().compareTo(right.name()));
            for (ConfigEntry entry : entries) {
                if (entry.source().name().startsWith("DYNAMIC")) {
                    System.out.println("config " + resource.type() + " " + resource.name() + " " + entry.name() + "=" + entry.value() + " " + entry.source());
                }
            }
        }
        for (String name : names) {
            for (String isolation : List.of("read_uncommitted", "read_committed")) {
                List<ConsumerRecord<String, String>> records = records(name, isolation);
                records.forEach(record -> print(isolation, record));
                offsets(name, isolation, records);
            }
            for (TopicPartition partition : partitions(name)) {
                var newest = admin.listOffsets(Map.of(partition, OffsetSpec.maxTimestamp())).all().get().get(partition);
                System.out.println("newest " + partition + " " + newest);
            }
        }
        for (String group : List.of("classic-admin", "member-classic", "member-consumer", "transactional", "deleted")) {
            var committed = admin.listConsumerGroupOffsets(Map.of(group, new ListConsumerGroupOffsetsSpec())).partitionsToOffsetAndMetadata(group).get();
            for (TopicPartition partition : sorted(committed.keySet())) {
                System.out.println("group " + group + " " + partition + " " + committed.get(partition));
            }
        }
    }

    private List<TopicPartition> partitions(String topic) throws Exception {
        int count = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size();
        List<TopicPartition> partitions = new ArrayList<>();
        for (int index = 0; index < count; index++) {
            partitions.add(new TopicPartition(topic, index));
        }
        return partitions;
    }

    private static List<TopicPartition> sorted(Set<TopicPartition> partitions) {
        return partitions.stream().sorted((left, right) -> left.toString().compareTo(right.toString())).toList();
    }

    private void offsets(String topic, String isolation, List<ConsumerRecord<String, String>> records) throws Exception {
        try (var consumer = consumer(isolation)) {
            List<TopicPartition> partitions = partitions(topic);
            var earliest = consumer.beginningOffsets(partitions);
            var latest = consumer.endOffsets(partitions);
            for (TopicPartition partition : partitions) {
                StringJoiner byTime = new StringJoiner(",");
                for (var record : records) {
                    if (record.partition() == partition.partition() && record.offset() % 97 == 0) {
                        var found = consumer.offsetsForTimes(Map.of(partition, record.timestamp())).get(partition);
                        byTime.add(record.timestamp() + "->" + found);
                    }
                }
                System.out.println("offsets " + isolation + " " + partition + " " + earliest.get(partition) + " " + latest.get(partition) + " " + byTime);
            }
        }
    }

    private KafkaConsumer<String, String> consumer(String isolation) {
        Properties configs = new Properties();
        configs.putAll(at);
        configs.put("isolation.level", isolation);
        configs.put("auto.offset.reset", "earliest");
        configs.put("fetch.max.wait.ms", "10");
        return new KafkaConsumer<>(configs, new StringDeserializer(), new StringDeserializer());
    }

    private List<ConsumerRecord<String, String>> records(String topic, String isolation) throws Exception {
        List<ConsumerRecord<String, String>> records = new ArrayList<>();
        try (var consumer = consumer(isolation)) {
            for (TopicPartition partition : partitions(topic)) {
                consumer.assign(List.of(partition));
                consumer.seekToBeginning(List.of(partition));
                long end = consumer.endOffsets(List.of(partition)).get(partition);
                long deadline = System.currentTimeMillis() + 20_000;
                while (consumer.position(partition) < end) {
                    consumer.poll(Duration.ofMillis(100)).forEach(records::add);
                    if (System.currentTimeMillis() > deadline) {
                        throw new IllegalStateException(partition + " is read up to " + consumer.position(partition) + " of " + end);
                    }
                }
            }
        }
        return records;
    }

    private static void print(String isolation, ConsumerRecord<String, String> record) {
        StringJoiner headers = new StringJoiner(",");
        for (Header header : record.headers()) {
            headers.add(header.key() + "=" + (header.value() == null ? "null" : new String(header.value(), StandardCharsets.UTF_8)));
        }
        System.out.println(isolation + " " + record.topic() + "-" + record.partition() + " " + record.offset() + " " + record.timestampType() + " "
            + record.timestamp() + " epoch " + record.leaderEpoch().orElse(-1) + " " + record.key() + " " + record.value() + " " + headers);
    }
}
