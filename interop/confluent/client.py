"""The client program of interop/README.md, with confluent-kafka, which is librdkafka."""

import queue
import sys
import threading

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic


def create(bootstrap, topic, partitions):
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, int(partitions), 1)])[topic].result(30)


def delete(bootstrap, topic):
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.delete_topics([topic])[topic].result(30)


def produce(bootstrap, topic, start, count, epoch, *codecs):
    number = int(start)
    for codec in codecs:
        failures = []
        producer = Producer({
            "bootstrap.servers": bootstrap,
            "compression.type": codec,
            "enable.idempotence": True,
            "on_delivery": lambda error, _: error and failures.append(error),
        })
        for number in range(number, number + int(count)):
            key = None if number % 10 == 9 else f"key-{number % 20}"
            value = f"value-{number}-" + "x" * (number % 100)
            headers = [("codec", codec), ("client", "confluent")]
            producer.produce(topic, value, key, headers=headers, timestamp=int(epoch) + number)
        left = producer.flush(30)
        if left or failures:
            sys.exit(f"{left} records not delivered, failures: {failures[:3]}")
        number += 1


CLASSIC = {"session.timeout.ms": 10000, "heartbeat.interval.ms": 500}


def member(bootstrap, topic, group, instance=None):
    consume(bootstrap, topic, group, instance, {**CLASSIC, "isolation.level": "read_uncommitted"})


def committed_member(bootstrap, topic, group):
    consume(bootstrap, topic, group, None, {**CLASSIC, "isolation.level": "read_committed"})


def consumer_member(bootstrap, topic, group, instance=None):
    consume(bootstrap, topic, group, instance, {"group.protocol": "consumer"})


def consume(bootstrap, topic, group, instance, protocol):
    configs = {
        "bootstrap.servers": bootstrap,
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        **protocol,
    }
    if instance:
        configs["group.instance.id"] = instance
    consumer = Consumer(configs)
    # With the consumer protocol only what is added or removed is told.
    assigned = set()

    def on_assign(_, partitions):
        assigned.update(p.partition for p in partitions)
        print("assigned", *sorted(assigned), flush=True)

    def on_revoke(_, partitions):
        assigned.difference_update(p.partition for p in partitions)
        print("assigned", *sorted(assigned), flush=True)

    stopped = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), stopped.set()), daemon=True).start()
    consumer.subscribe([topic], on_assign=on_assign, on_revoke=on_revoke)
    while not stopped.is_set():
        messages = consumer.consume(500, timeout=0.1)
        for message in messages:
            if message.error():
                print(message.error(), file=sys.stderr)
                continue
            headers = ",".join(f"{name}={value.decode()}" for name, value in message.headers() or [])
            key = message.key().decode() if message.key() is not None else "NULL"
            fields = (message.partition(), message.offset(), message.timestamp()[1], key, message.value().decode(), headers)
            print("record", *fields, sep="\t")
        if any(not message.error() for message in messages):
            consumer.commit(asynchronous=False)
            sys.stdout.flush()
    consumer.close()


def copy(bootstrap, source, target, group, identity, pause=None):
    # Not by time is it to be replaced, but by its successor; a restart of the broker may take a while.
    transact(bootstrap, source, target, group, identity, pause, {"session.timeout.ms": 60000, "heartbeat.interval.ms": 500, "group.instance.id": identity})


def consumer_copy(bootstrap, source, target, group, identity, pause=None):
    transact(bootstrap, source, target, group, identity, pause, {"group.protocol": "consumer"})


def transact(bootstrap, source, target, group, identity, pause, protocol):
    """Copies a topic to another in transactions, every third of which it aborts, and does again."""
    orders = queue.Queue()
    threading.Thread(target=lambda: [orders.put(line) for line in sys.stdin], daemon=True).start()
    configs = {"bootstrap.servers": bootstrap, "transactional.id": identity, "transaction.timeout.ms": 300000}
    producer = Producer(configs)
    persist(producer.init_transactions)
    consumer = Consumer({
        "bootstrap.servers": bootstrap,
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "isolation.level": "read_committed",
        **protocol,
    })
    consumer.subscribe([source])
    number = 1
    # The only line that comes outside of a pause is the one that ends it all.
    while orders.empty():
        consumed = consumer.consume(20, timeout=0.1)
        for message in consumed:
            if message.error():
                print(message.error(), file=sys.stderr)
        messages = [message for message in consumed if not message.error()]
        if not messages:
            continue
        producer.begin_transaction()
        first, following = {}, {}
        for message in messages:
            at = message.partition()
            first.setdefault(at, message.offset())
            following[at] = message.offset() + 1
            producer.produce(
                target, message.value(), message.key(), at, headers=message.headers(), timestamp=message.timestamp()[1]
            )
        try:
            offsets = [TopicPartition(source, at, offset) for at, offset in following.items()]
            persist(lambda: producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata()))
            if pause:
                producer.flush()
                print("open", flush=True)
                orders.get()
            if number % 3 == 0:
                persist(producer.abort_transaction)
                for at, offset in first.items():
                    consumer.seek(TopicPartition(source, at, offset))
                print("aborted", flush=True)
            else:
                persist(producer.commit_transaction)
                print("committed", flush=True)
            if pause:
                # When the coordinator was away meanwhile, the next call with offsets never returns in librdkafka 2.x,
                # with Apache Kafka neither.
                producer = Producer(configs)
                persist(producer.init_transactions)
                pause = None
        except KafkaException as error:
            if error.args[0].code() != KafkaError._FENCED:
                raise
            print("fenced", flush=True)
            break
        number += 1
    consumer.close()


def persist(act):
    """Does what a broker that is away, or a coordinator that is busy, has prevented, until it is done."""
    while True:
        try:
            return act()
        except KafkaException as error:
            if not error.args[0].retriable():
                raise
            print(error, file=sys.stderr)


def offsets(bootstrap, topic, timestamp):
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "none"})
    partitions = sorted(consumer.list_topics(topic, 30).topics[topic].partitions)
    found = consumer.offsets_for_times([TopicPartition(topic, p, int(timestamp)) for p in partitions], 30)
    for at in sorted(found, key=lambda at: at.partition):
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, at.partition), 30)
        print(at.partition, low, high, -1 if at.offset == OFFSET_END else at.offset)


if __name__ == "__main__":
    globals()[sys.argv[1].replace("-", "_")](*sys.argv[2:])
