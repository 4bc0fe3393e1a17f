import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
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
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.TopicPartition;
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
    private static final Pattern UUID =
            Pattern.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}");
    /** The id that a member of the consumer protocol gives itself. */
    private static final Pattern MEMBER_ID = Pattern.compile("(?<=\\s)[A-Za-z0-9_-]{22}(?=\\s)");

    private final String bootstrap;
    private final Path directory;
    private final Map<String, String> tools = new HashMap<>();
    private final Admin admin;
    private final Map<String, Member> members = new LinkedHashMap<>();

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
        for (String each : console.said().split("\n")) {
            if (each.startsWith("Option ")) {
                // The help is the tool's own, the same whatever the broker says.
                break;
            }
            String steady = steady(each);
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
