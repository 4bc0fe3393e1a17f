import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.net.Socket;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.regex.Pattern;

import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.TransactionState;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.errors.InvalidProducerEpochException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.message.ProduceRequestData;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.SimpleRecord;
import org.apache.kafka.common.requests.AbstractResponse;
import org.apache.kafka.common.requests.ProduceRequest;
import org.apache.kafka.common.requests.RequestHeader;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs the commands of a transcript against a broker, all in one JVM, and prints the transcript with what they print
 * now: {@code Transcript BOOTSTRAP FILE DIRECTORY TOOL=CLASS...}. {@code $} begins a command of a tool, {@code !} something that is
 * done to the cluster in between, {@code #} a comment; all else was printed, and is printed anew. What differs from
 * run to run is replaced: ids, addresses, the order of lines, the width of columns.
 */
public final class Transcript {
    private static final Duration PATIENCE = Duration.ofSeconds(45);
    /** The producer id of the transactions that hang. */
    private static final long HANGING_PRODUCER = 4711;
    private static final Pattern UUID =
            Pattern.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}");
    /** The id that a member of the consumer protocol gives itself. */
    private static final Pattern MEMBER_ID = Pattern.compile("(?<=\\s)(?!LatestCoordinatorEpoch)[A-Za-z0-9_-]{22}(?=\\s)");

    private final String bootstrap;
    private final Path directory;
    private final Map<String, String> tools = new HashMap<>();
    private final Admin admin;
    private final Map<String, Member> members = new LinkedHashMap<>();
    /** Producers by their transactional ids. */
    private final Map<String, KafkaProducer<String, String>> producers = new HashMap<>();

    /** Columns of kafka-transactions whose numbers differ from run to run. */
    private static final Set<String> UNSTEADY_COLUMNS = Set.of(
            "ProducerId", "LastTimestamp", "CurrentTransactionStartTimeMs", "TransactionDurationMs", "Duration(min)");

    /** What the tools say of the exceptions that they have told of already. */
    private static final Pattern TRACE = Pattern.compile("\\s+at .*|\\s+\\.\\.\\. .*|(Caused by: )?([a-z]+\\.)+\\w+(Exception|Error):.*");

    /** Everything that a tool prints until it wants to end the process. */
    private static final class Console {
        final ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        final PrintStream stream = new PrintStream(bytes, true, StandardCharsets.UTF_8);
        private String said;
        private int status;

        /** Tools catch what is thrown here, and then have more to say. */
        void end(int with) {
            if (said == null) {
                status = with;
                said = bytes.toString(StandardCharsets.UTF_8);
            }
            throw new Ended();
        }

        String said() {
            return said == null ? bytes.toString(StandardCharsets.UTF_8) : said;
        }
    }

    private static final class Ended extends RuntimeException {
    }

    /** A consumer that commits all that it reads, until it is told to leave. */
    private final class Member implements Runnable {
        final AtomicInteger read = new AtomicInteger();
        final AtomicBoolean leaves = new AtomicBoolean();
        final Thread thread = new Thread(this);
        final KafkaConsumer<String, String> consumer;
        volatile int assigned;

        Member(Properties configs, Collection<String> topics) {
            consumer = new KafkaConsumer<>(configs, new StringDeserializer(), new StringDeserializer());
            consumer.subscribe(topics);
            thread.setDaemon(true);
            thread.start();
        }

        @Override
        public void run() {
            while (!leaves.get()) {
                int count = consumer.poll(Duration.ofMillis(50)).count();
                assigned = consumer.assignment().size();
                if (count > 0) {
                    consumer.commitSync();
                    read.addAndGet(count);
                }
            }
            consumer.close();
        }
    }

    private Transcript(String bootstrap, Path directory) {
        this.bootstrap = bootstrap;
        this.directory = directory;
        this.admin = Admin.create(Map.of("bootstrap.servers", bootstrap));
    }

    public static void main(String[] arguments) throws Exception {
        System.setProperty("org.slf4j.simpleLogger.defaultLogLevel", "off");
        PrintStream out = System.out;
        Transcript transcript = new Transcript(arguments[0], Path.of(arguments[2]));
        for (String tool : List.of(arguments).subList(3, arguments.length)) {
            String[] nameAndClass = tool.split("=", 2);
            transcript.tools.put(nameAndClass[0], nameAndClass[1]);
        }
        for (String line : Files.readAllLines(Path.of(arguments[1]))) {
            if (line.isEmpty() || line.startsWith("#")) {
                out.println(line);
            } else if (line.startsWith("! ")) {
                out.println(line);
                transcript.act(line.substring(2));
            } else if (line.startsWith("$ ")) {
                out.println(line);
                transcript.tool(line.substring(2)).forEach(said -> out.println("  " + said));
            }
        }
        out.flush();
        // Members that are still there keep threads that are no daemons.
        Runtime.getRuntime().halt(0);
    }

    private List<String> tool(String line) throws Exception {
        String[] words = line.replace("FILES", directory.toString()).split(" ");
        List<String> rest = new ArrayList<>(List.of(words).subList(1, words.length));
        if (!rest.contains("--validate-regex")) {
            rest.addAll(0, List.of("--bootstrap-server", bootstrap));
        }
        Console console = new Console();
        Exit.setExitProcedure((status, message) -> console.end(status));
        Exit.setHaltProcedure((status, message) -> console.end(status));
        PrintStream out = System.out;
        PrintStream err = System.err;
        System.setOut(console.stream);
        System.setErr(console.stream);
        try {
            Class<?> tool = Class.forName(tools.get(words[0]));
            tool.getMethod("main", String[].class).invoke(null, (Object) rest.toArray(String[]::new));
        } catch (InvocationTargetException thrown) {
            if (!(thrown.getCause() instanceof Ended)) {
                throw thrown;
            }
        } finally {
            System.setOut(out);
            System.setErr(err);
        }
        List<String> lines = new ArrayList<>();
        List<String> columns = List.of();
        for (String each : console.said().split("\n")) {
            if (each.startsWith("Option ")) {
                // The help is the tool's own, the same whatever the broker says.
                break;
            }
            String steady = steady(each);
            List<String> fields = List.of(steady.split(" "));
            if (fields.contains("ProducerId")) {
                columns = fields;
            } else if (fields.size() <= columns.size()) {
                // The last column may be empty.
                steady = steady(fields, columns);
            }
            if (!steady.isEmpty()) {
                lines.add(steady);
            }
        }
        lines.sort(null);
        if (console.status != 0) {
            lines.add("exit status " + console.status);
        }
        return lines;
    }

    private String steady(String line) {
        if (TRACE.matcher(line).matches()) {
            return "";
        }
        String text = UUID.matcher(line + " ").replaceAll("UUID");
        text = MEMBER_ID.matcher(text).replaceAll("ID");
        text = text.replace(bootstrap, "BROKER").replaceAll("BROKER\\s+\\(\\d+\\)", "BROKER (N)");
        return text.replace(directory.toString(), "FILES").replaceAll("\\s+", " ").strip();
    }

    /** A row of a table of kafka-transactions. What the transcript gives itself stays. */
    private static String steady(List<String> fields, List<String> columns) {
        List<String> row = new ArrayList<>();
        for (int n = 0; n < fields.size(); n++) {
            boolean isUnsteady = UNSTEADY_COLUMNS.contains(columns.get(n)) && fields.get(n).matches("\\d+")
                    && !fields.get(n).equals(String.valueOf(HANGING_PRODUCER));
            row.add(isUnsteady ? "N" : fields.get(n));
        }
        return String.join(" ", row);
    }

    private void act(String line) throws Exception {
        Map<String, String> with = new HashMap<>();
        String[] words = line.split(" ");
        for (String word : List.of(words).subList(1, words.length)) {
            String[] pair = word.split("=", 2);
            with.put(pair[0], pair[1]);
        }
        switch (words[0]) {
            case "topic" -> {
                int partitions = Integer.parseInt(with.get("partitions"));
                NewTopic topic = new NewTopic(with.get("name"), Optional.of(partitions), Optional.empty());
                admin.createTopics(List.of(topic)).all().get();
            }
            case "produce" -> produce(with);
            case "commit" -> {
                TopicPartition partition =
                        new TopicPartition(with.get("topic"), Integer.parseInt(with.get("partition")));
                OffsetAndMetadata offset = new OffsetAndMetadata(Long.parseLong(with.get("offset")));
                admin.alterConsumerGroupOffsets(with.get("group"), Map.of(partition, offset)).all().get();
            }
            case "join" -> join(with);
            case "read" -> {
                Member member = members.get(with.get("client"));
                int count = Integer.parseInt(with.get("count"));
                await(line, () -> member.read.get() >= count);
            }
            case "leave" -> {
                Member member = members.remove(with.get("client"));
                member.leaves.set(true);
                member.thread.join(PATIENCE.toMillis());
                settle(with.get("group"));
            }
            case "begin" -> begin(with);
            case "end" -> end(with);
            case "fenced" -> fenced(with.get("id"));
            case "hang" -> hang(with);
            case "file" -> Files.writeString(
                    directory.resolve(with.get("name")), with.get("text").replace(";", "\n") + "\n");
            default -> throw new IllegalArgumentException("what is " + words[0]);
        }
    }

    private void produce(Map<String, String> with) {
        Map<String, Object> configs = Map.of("bootstrap.servers", bootstrap);
        int partition = Integer.parseInt(with.get("partition"));
        try (KafkaProducer<String, String> producer =
                new KafkaProducer<>(configs, new StringSerializer(), new StringSerializer())) {
            for (int n = 0; n < Integer.parseInt(with.get("count")); n++) {
                long timestamp = Long.parseLong(with.getOrDefault("timestamp", "1000000000000")) + n;
                producer.send(new ProducerRecord<>(with.get("topic"), partition, timestamp, "k", "value-" + n));
            }
        }
    }

    /** A producer begins a transaction, and leaves it open. */
    private void begin(Map<String, String> with) throws Exception {
        String id = with.get("id");
        KafkaProducer<String, String> producer = producers.get(id);
        if (producer == null) {
            Map<String, Object> configs = Map.of(
                    "bootstrap.servers", bootstrap, "transactional.id", id, "transaction.timeout.ms", "600000");
            producer = new KafkaProducer<>(configs, new StringSerializer(), new StringSerializer());
            producer.initTransactions();
            producers.put(id, producer);
        }
        producer.beginTransaction();
        for (String partition : with.get("partitions").split(",")) {
            producer.send(new ProducerRecord<>(with.get("topic"), Integer.parseInt(partition), "k", "v")).get();
        }
    }

    private void end(Map<String, String> with) throws Exception {
        String id = with.get("id");
        boolean commits = with.get("with").equals("commit");
        if (commits) {
            producers.get(id).commitTransaction();
        } else {
            producers.get(id).abortTransaction();
        }
        TransactionState ended = commits ? TransactionState.COMPLETE_COMMIT : TransactionState.COMPLETE_ABORT;
        await("the markers are written", () ->
                admin.describeTransactions(List.of(id)).description(id).get().state() == ended);
    }

    /** The producer may not go on. */
    private void fenced(String id) {
        try (KafkaProducer<String, String> producer = producers.remove(id)) {
            producer.commitTransaction();
        } catch (ProducerFencedException | InvalidProducerEpochException expected) {
            return;
        }
        throw new IllegalStateException(id + " is not fenced");
    }

    /**
     * Opens a transaction in a partition that no coordinator knows: a batch of a client before transactions v2, where the
     * broker does not ask the coordinator.
     */
    private void hang(Map<String, String> with) throws Exception {
        short version = ProduceRequest.LAST_STABLE_VERSION_BEFORE_TRANSACTION_V2;
        SimpleRecord record = new SimpleRecord(1000000000000L, "k".getBytes(StandardCharsets.UTF_8), new byte[] {'v'});
        MemoryRecords records = MemoryRecords.withTransactionalRecords(
                Compression.NONE, HANGING_PRODUCER, Short.parseShort(with.get("epoch")), 0, record);
        ProduceRequestData.TopicProduceDataCollection topics = new ProduceRequestData.TopicProduceDataCollection();
        topics.add(new ProduceRequestData.TopicProduceData().setName(with.get("topic")).setPartitionData(List.of(
                new ProduceRequestData.PartitionProduceData()
                        .setIndex(Integer.parseInt(with.get("partition"))).setRecords(records))));
        ProduceRequestData data = new ProduceRequestData()
                .setTransactionalId("hangs").setAcks((short) -1).setTimeoutMs(10_000).setTopicData(topics);
        RequestHeader header = new RequestHeader(ApiKeys.PRODUCE, version, "transcript", 1);
        ByteBuffer request = new ProduceRequest.Builder(version, version, data).build(version).serializeWithHeader(header);
        String[] address = bootstrap.split(":");
        try (Socket socket = new Socket(address[0], Integer.parseInt(address[1]))) {
            DataOutputStream out = new DataOutputStream(socket.getOutputStream());
            out.writeInt(request.remaining());
            out.write(request.array(), request.arrayOffset() + request.position(), request.remaining());
            DataInputStream in = new DataInputStream(socket.getInputStream());
            byte[] response = in.readNBytes(in.readInt());
            Map<Errors, Integer> errors =
                    AbstractResponse.parseResponse(ByteBuffer.wrap(response), header).errorCounts();
            if (!errors.keySet().equals(Set.of(Errors.NONE))) {
                throw new IllegalStateException("the batch is refused: " + errors);
            }
        }
    }

    private void join(Map<String, String> with) throws Exception {
        Properties configs = new Properties();
        configs.put("bootstrap.servers", bootstrap);
        configs.put("group.id", with.get("group"));
        configs.put("client.id", with.get("client"));
        configs.put("group.protocol", with.get("protocol"));
        configs.put("auto.offset.reset", "earliest");
        configs.put("enable.auto.commit", "false");
        if (with.containsKey("instance")) {
            configs.put("group.instance.id", with.get("instance"));
        }
        if (with.containsKey("assignor")) {
            configs.put("group.remote.assignor", with.get("assignor"));
        }
        Member member = new Member(configs, List.of(with.get("topics").split(",")));
        members.put(with.get("client"), member);
        await("join " + with, () -> member.assigned > 0);
        settle(with.get("group"));
    }

    /** Waits until a group is stable, or has no members. */
    private void settle(String group) throws Exception {
        await(group + " settles", () -> {
            GroupState state =
                    admin.describeConsumerGroups(List.of(group)).describedGroups().get(group).get().groupState();
            return Set.of(GroupState.STABLE, GroupState.EMPTY).contains(state);
        });
    }

    private interface Condition {
        boolean holds() throws Exception;
    }

    private static void await(String what, Condition condition) throws Exception {
        long deadline = System.nanoTime() + PATIENCE.toNanos();
        while (!condition.holds()) {
            if (System.nanoTime() > deadline) {
                throw new IllegalStateException("waited in vain: " + what);
            }
            Thread.sleep(50);
        }
    }
}
