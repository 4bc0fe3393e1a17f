"""The client program of interop/README.md, with kafka-python."""

import sys
import threading

from kafka import ConsumerRebalanceListener, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import KafkaConnectionError


def create(bootstrap, topic, partitions):
    KafkaAdminClient(bootstrap_servers=bootstrap).create_topics([NewTopic(topic, int(partitions), 1)])


def delete(bootstrap, topic):
    KafkaAdminClient(bootstrap_servers=bootstrap).delete_topics([topic])


def produce(bootstrap, topic, start, count, epoch, *codecs):
    number = int(start)
    for codec in codecs:
        producer = KafkaProducer(
            bootstrap_servers=bootstrap,
            acks="all",
            enable_idempotence=True,
            compression_type=None if codec == "none" else codec,
            linger_ms=5,
        )
        acknowledgements = []
        for number in range(number, number + int(count)):
            key = None if number % 10 == 9 else f"key-{number % 20}".encode()
            value = f"value-{number}-" + "x" * (number % 100)
            headers = [("codec", codec.encode()), ("client", b"python")]
            acknowledgements.append(
                producer.send(topic, value.encode(), key=key, headers=headers, timestamp_ms=int(epoch) + number)
            )
        for acknowledgement in acknowledgements:
            acknowledgement.get(30)
        producer.close()
        number += 1


class Assignments(ConsumerRebalanceListener):
    def on_partitions_assigned(self, assigned):
        print("assigned", *sorted(p.partition for p in assigned), flush=True)

    def on_partitions_revoked(self, revoked):
        print("revoked", flush=True)


def member(bootstrap, topic, group):
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=10000,
        heartbeat_interval_ms=500,
    )
    stopped = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), stopped.set()), daemon=True).start()
    consumer.subscribe([topic], listener=Assignments())
    dirty = False
    while not stopped.is_set():
        try:
            # A poll that times out while the new member joins for the second time, with the topic's metadata, leaves
            # kafka-python 3.0.12 waiting for ever: the time must be longer than that.
            polled = consumer.poll(timeout_ms=2000)
        except KafkaConnectionError as error:
            # A request was under way when the broker went away.
            print("poll:", error, file=sys.stderr)
            continue
        for records in polled.values():
            for record in records:
                headers = ",".join(f"{name}={value.decode()}" for name, value in record.headers)
                key = record.key.decode() if record.key is not None else "NULL"
                fields = (record.partition, record.offset, record.timestamp, key, record.value.decode(), headers)
                print("record", *fields, sep="\t")
        sys.stdout.flush()
        dirty = dirty or bool(polled)
        try:
            if dirty:
                consumer.commit()
                dirty = False
        except KafkaConnectionError as error:
            print("commit:", error, file=sys.stderr)
    consumer.close()


def offsets(bootstrap, topic, timestamp):
    consumer = KafkaConsumer(bootstrap_servers=bootstrap)
    partitions = [TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic))]
    earliest, latest = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
    found = consumer.offsets_for_times({p: int(timestamp) for p in partitions})
    for p in partitions:
        print(p.partition, earliest[p], latest[p], found[p].offset if found[p] else -1)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
