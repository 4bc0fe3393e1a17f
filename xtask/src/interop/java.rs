//! Apache Kafka's Java programs: how they are installed and run.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::install;
use super::process::Result;

/// Apache Kafka's tools by the name of their scripts, and the class that each of them runs.
pub(crate) const TOOLS: &[(&str, &str)] = &[
    ("kafka-broker-api-versions", "org.apache.kafka.tools.BrokerApiVersionsCommand"),
    ("kafka-cluster", "org.apache.kafka.tools.ClusterTool"),
    ("kafka-configs", "kafka.admin.ConfigCommand"),
    ("kafka-console-consumer", "org.apache.kafka.tools.consumer.ConsoleConsumer"),
    ("kafka-console-producer", "org.apache.kafka.tools.ConsoleProducer"),
    ("kafka-consumer-groups", "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"),
    ("kafka-consumer-perf-test", "org.apache.kafka.tools.ConsumerPerformance"),
    ("kafka-delete-records", "org.apache.kafka.tools.DeleteRecordsCommand"),
    ("kafka-dump-log", "org.apache.kafka.tools.DumpLogSegments"),
    ("kafka-features", "org.apache.kafka.tools.FeatureCommand"),
    ("kafka-get-offsets", "org.apache.kafka.tools.GetOffsetShell"),
    ("kafka-groups", "org.apache.kafka.tools.GroupsCommand"),
    ("kafka-log-dirs", "org.apache.kafka.tools.LogDirsCommand"),
    ("kafka-metadata-quorum", "org.apache.kafka.tools.MetadataQuorumCommand"),
    ("kafka-producer-perf-test", "org.apache.kafka.tools.ProducerPerformance"),
    ("kafka-reassign-partitions", "org.apache.kafka.tools.reassign.ReassignPartitionsCommand"),
    ("kafka-topics", "org.apache.kafka.tools.TopicCommand"),
    ("kafka-transactions", "org.apache.kafka.tools.TransactionsCommand"),
];

/// Where the older release of the Java clients lies.
const OLD: &str = "java-old";

/// Fetches Apache Kafka from Maven Central and compiles our Java client.
pub(crate) fn install() -> Result<()> {
    let sources = install::source("java");
    let inputs =
        ["pom.xml", "Client.java", "Directory.java", "Transcript.java"].map(|name| sources.join(name));
    install::once("java", &inputs, || {
        let _ = fs::remove_dir_all(install::work("java"));
        let mut command = Command::new("mvn");
        command.args(["--batch-mode", "--quiet", "compile"]).current_dir(&sources);
        install::step(&mut command, Duration::from_secs(600))
    })
}

/// Fetches an older release of the Java clients, with which the same program runs.
pub(crate) fn install_old() -> Result<()> {
    install()?;
    let source = install::source("java/old");
    install::once(OLD, &[source.join("pom.xml")], || {
        let mut command = Command::new("mvn");
        command.args(["--batch-mode", "--quiet", "process-resources"]).current_dir(&source);
        install::step(&mut command, Duration::from_secs(600))
    })
}

/// Our Java client with the older release.
pub(crate) fn old_client() -> Command {
    let libraries = install::work(OLD).join("lib/*");
    let classes = install::work("java").join("classes");
    let mut command = Command::new("java");
    command.arg("-Dclient=old-java");
    short_lived(&mut command, &format!("{}:{}", libraries.display(), classes.display()), "Client");
    command
}

/// A short-lived program: the start of the JVM counts, not its peak speed.
pub(crate) fn command(class: &str) -> Command {
    let mut command = Command::new("java");
    short_lived(&mut command, &classpath(), class);
    command
}

fn short_lived(command: &mut Command, classpath: &str, class: &str) {
    command.args([
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-Xshare:auto",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-cp",
    ]);
    command.arg(classpath).arg(class);
}

/// A long-lived program, which logs to its standard error from this level on; the class and its arguments are still to be added.
pub(crate) fn server_command(level: &str) -> Command {
    let mut command = Command::new("java");
    command.args(["-Xms256m", "-Xmx1g"]);
    let settings = [
        ("defaultLogLevel", level),
        ("log.org.apache.kafka.common.config", "warn"),
        ("showDateTime", "true"),
        ("dateTimeFormat", "HH:mm:ss.SSS"),
    ];
    command.args(settings.map(|(name, value)| format!("-Dorg.slf4j.simpleLogger.{name}={value}")));
    command.arg("-cp").arg(classpath());
    command
}

/// One of Apache Kafka's tools by the name of its script.
pub(crate) fn tool(name: &str) -> Result<Command> {
    let class = TOOLS.iter().find(|(script, _)| *script == name).map(|(_, class)| class);
    let names = || TOOLS.iter().map(|(script, _)| *script).collect::<Vec<_>>().join(", ");
    class.map(|class| command(class)).ok_or_else(|| format!("no tool {name}; there are {}", names()))
}

fn classpath() -> String {
    let work: PathBuf = install::work("java");
    format!("{}:{}", work.join("lib/*").display(), work.join("classes").display())
}
