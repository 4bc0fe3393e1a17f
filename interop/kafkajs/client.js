// The client program of interop/README.md, with kafkajs. It has gzip of its own; the other codecs are plugged in, as its users do.
"use strict";

const readline = require("node:readline");
const { CompressionCodecs, CompressionTypes, Kafka, logLevel } = require("kafkajs");
const lz4 = require("lz4-napi");
const snappy = require("kafkajs-snappy");
const zstd = require("@bokuweb/zstd-wasm");

CompressionCodecs[CompressionTypes.Snappy] = snappy;
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: (encoder) => lz4.compressFrame(encoder.buffer),
  decompress: (buffer) => lz4.decompressFrame(buffer),
});
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async (encoder) => Buffer.from(zstd.compress(encoder.buffer)),
  decompress: async (buffer) => Buffer.from(zstd.decompress(buffer)),
});

const compression = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD,
};

const commands = { create, delete: remove, produce, member, offsets };

async function create(kafka, topic, partitions) {
  await withAdmin(kafka, (admin) => admin.createTopics({ topics: [{ topic, numPartitions: Number(partitions) }] }));
}

async function remove(kafka, topic) {
  await withAdmin(kafka, (admin) => admin.deleteTopics({ topics: [topic] }));
}

async function produce(kafka, topic, from, count, epoch, ...codecs) {
  const producer = kafka.producer({ idempotent: true });
  await producer.connect();
  let number = Number(from);
  for (const codec of codecs) {
    const messages = [];
    for (const end = number + Number(count); number < end; number++) {
      messages.push({
        key: number % 10 === 9 ? null : `key-${number % 20}`,
        value: `value-${number}-${"x".repeat(number % 100)}`,
        headers: { codec, client: "kafkajs" },
        timestamp: String(Number(epoch) + number),
      });
    }
    await producer.send({ topic, messages, acks: -1, compression: compression[codec] });
  }
  await producer.disconnect();
}

async function member(kafka, topic, groupId) {
  const consumer = kafka.consumer({ groupId, sessionTimeout: 10000, heartbeatInterval: 500, maxWaitTimeInMs: 200 });
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    const partitions = [...(payload.memberAssignment[topic] ?? [])].sort((a, b) => a - b);
    console.log(["assigned", ...partitions].join(" "));
  });
  consumer.on(consumer.events.REBALANCING, () => console.log("revoked"));
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  // Offsets are committed after each batch.
  await consumer.run({
    eachBatch: async ({ batch }) => {
      for (const { offset, timestamp, key, value, headers } of batch.messages) {
        const pairs = Object.entries(headers).map(([name, text]) => `${name}=${text}`);
        console.log(["record", batch.partition, offset, timestamp, key ?? "NULL", value, pairs.join(",")].join("\t"));
      }
    },
  });
  await new Promise((stop) => readline.createInterface({ input: process.stdin }).once("line", stop).once("close", stop));
  await consumer.disconnect();
}

async function offsets(kafka, topic, timestamp) {
  await withAdmin(kafka, async (admin) => {
    const found = await admin.fetchTopicOffsetsByTimestamp(topic, Number(timestamp));
    for (const { partition, low, high } of (await admin.fetchTopicOffsets(topic)).sort((a, b) => a.partition - b.partition)) {
      // When there is none, kafkajs answers with the end.
      const { offset } = found.find((at) => at.partition === partition);
      console.log(partition, low, high, offset === high ? -1 : offset);
    }
  });
}

async function withAdmin(kafka, use) {
  const admin = kafka.admin();
  await admin.connect();
  await use(admin);
  await admin.disconnect();
}

async function main() {
  const [command, bootstrap, ...rest] = process.argv.slice(2);
  await zstd.init();
  const retry = { initialRetryTime: 100, maxRetryTime: 1000, retries: 30 };
  await commands[command](new Kafka({ brokers: [bootstrap], logLevel: logLevel.WARN, retry }), ...rest);
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
