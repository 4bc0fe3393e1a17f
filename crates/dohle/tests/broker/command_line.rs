//! The commands as a shell sees them: what they print, where, and how they end.

use crate::process::{Broker, Directory, dohle, run};

#[test]
fn topics_records_and_groups_make_the_round() {
    let data = Directory::new();
    let broker = Broker::start(&data.0, &["group.initial.rebalance.delay.ms=0"]);
    broker.succeed(&["topic", "create", "orders", "--partitions", "2"], "");
    assert_eq!(broker.run(&["topic", "create", "orders"], "").code, 1);
    broker.succeed(&["topic", "create", "orders", "--if-not-exists"], "");
    assert!(broker.succeed(&["topic", "list"], "").lines().any(|line| line.contains("orders")));
    broker.succeed(&["topic", "alter", "orders", "--partitions", "3"], "");
    assert!(broker.succeed(&["topic", "describe", "orders"], "").contains("orders"));

    let lines: String = (0..1000).map(|number| format!("key{}:value {number}\n", number % 7)).collect();
    broker.succeed(&["produce", "orders", "--key-separator", ":"], &lines);
    let read = |arguments: &[&str]| {
        let printed = broker.succeed(&[&["consume", "orders"], arguments].concat(), "");
        printed.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let sorted = |mut lines: Vec<String>| {
        lines.sort();
        lines
    };
    let all = sorted(lines.lines().map(str::to_owned).collect());
    assert_eq!(sorted(read(&["--exit-at-end", "--format", "%k:%v\\n"])), all);

    let mut by_group = read(&["--group", "billing", "-n", "400", "--format", "%k:%v\\n"]);
    assert_eq!(by_group.len(), 400);
    assert!(broker.succeed(&["group", "list"], "").contains("billing"));
    assert!(broker.succeed(&["group", "describe", "billing"], "").contains("orders"));
    broker.stop();

    let broker = Broker::start(&data.0, &["group.initial.rebalance.delay.ms=0"]);
    let rest = broker.succeed(&["consume", "orders", "-g", "billing", "-e", "-f", "%k:%v\\n"], "");
    by_group.extend(rest.lines().map(str::to_owned));
    assert_eq!(sorted(by_group), all);
    broker.succeed(&["group", "delete", "billing"], "");
    broker.succeed(&["topic", "delete", "orders"], "");
    assert!(!broker.succeed(&["topic", "list"], "").contains("orders"));
    let gone = broker.run(&["consume", "orders", "-e"], "");
    assert_eq!(gone.code, 1);
    assert!(gone.stderr.contains("orders"), "{}", gone.stderr);
}

#[test]
fn a_stop_is_heard_as_soon_as_the_port_is_open() {
    let data = Directory::new();
    for _ in 0..10 {
        Broker::start_until_port_opens(&data.0).stop();
    }
}

#[test]
fn help_is_asked_for_and_wrong_arguments_are_an_error() {
    let help = run(&mut dohle(&["--help"]), "");
    assert_eq!((help.code, help.stderr.as_str()), (0, ""));
    for command in ["server", "topic", "produce", "consume", "group", "txn", "log", "api-versions", "bench"] {
        assert!(help.stdout.contains(command), "--help does not name {command}");
    }
    assert_eq!(run(&mut dohle(&["no-such-command"]), "").code, 2);
    let nobody = run(&mut dohle(&["topic", "list", "--bootstrap-server", "127.0.0.1:1"]), "");
    assert_eq!(nobody.code, 1);
    assert!(nobody.stderr.contains("127.0.0.1:1"), "{}", nobody.stderr);
}

#[test]
fn a_wrong_configuration_is_refused_with_what_was_meant() {
    let data = Directory::new();
    let file = data.0.join("server.properties");
    std::fs::write(&file, "log.retention.hour=1\nnum.partitions=many\n").unwrap();
    let ended = run(dohle(&["server"]).arg(&file).arg("--data").arg(data.0.join("data")), "");
    assert_eq!(ended.code, 1);
    for expected in ["log.retention.hour", "log.retention.hours", "num.partitions", "many"] {
        assert!(ended.stderr.contains(expected), "{expected:?} is not in {:?}", ended.stderr);
    }
    assert!(!data.0.join("data").exists(), "nothing is made before the configuration is right");
}
