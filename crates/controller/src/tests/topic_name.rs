use crate::{is_internal_topic, validate_topic_name};

#[test]
fn names_are_checked_as_kafka_does() {
    for name in ["a", "A.b_c-9", "__consumer_offsets", "...", &"x".repeat(249)] {
        assert_eq!(validate_topic_name(name), Ok(()), "{name}");
    }
    for (name, message) in [
        ("", "Topic name is invalid: it is empty"),
        (".", "Topic name is invalid: '.' is not allowed"),
        ("..", "Topic name is invalid: '..' is not allowed"),
        (
            "a/b",
            "Topic name is invalid: 'a/b' has characters other than ASCII letters, digits, '.', '_' and '-'",
        ),
        ("ä", "Topic name is invalid: 'ä' has characters other than ASCII letters, digits, '.', '_' and '-'"),
        (&"x".repeat(250), "Topic name is invalid: it has 250 characters, and at most 249 are allowed"),
    ] {
        assert_eq!(validate_topic_name(name).unwrap_err().to_string(), message);
    }
}

#[test]
fn internal_topics_are_known_by_name() {
    assert!(is_internal_topic("__consumer_offsets"));
    assert!(is_internal_topic("__dohle_group_journal"));
    assert!(!is_internal_topic("__other"));
}
