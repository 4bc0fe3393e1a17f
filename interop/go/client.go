// The client program of interop/README.md, with franz-go.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

var codecs = map[string]kgo.CompressionCodec{
	"none":   kgo.NoCompression(),
	"gzip":   kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(),
	"lz4":    kgo.Lz4Compression(),
	"zstd":   kgo.ZstdCompression(),
}

func main() {
	command, bootstrap, topic, rest := os.Args[1], os.Args[2], os.Args[3], os.Args[4:]
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	switch command {
	case "create":
		response, err := admin(bootstrap).CreateTopic(ctx, int32(number(rest[0])), 1, nil, topic)
		check(err, response.Err)
	case "delete":
		response, err := admin(bootstrap).DeleteTopic(ctx, topic)
		check(err, response.Err)
	case "produce":
		produce(ctx, bootstrap, topic, number(rest[0]), number(rest[1]), number(rest[2]), rest[3:])
	case "member":
		member(ctx, cancel, bootstrap, topic, rest[0])
	case "committed-member":
		member(ctx, cancel, bootstrap, topic, rest[0], kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	case "copy":
		transact(ctx, bootstrap, topic, rest, kgo.InstanceID(rest[2]))
	case "consumer-copy":
		transact(ctx, bootstrap, topic, rest, kgo.ServerSideBalancer())
	case "offsets":
		offsets(ctx, bootstrap, topic, number(rest[0]))
	default:
		log.Fatal(command)
	}
}

func produce(ctx context.Context, bootstrap, topic string, from, count, epoch int64, names []string) {
	for _, name := range names {
		cl := client(bootstrap, kgo.ProducerBatchCompression(codecs[name]))
		for end := from + count; from < end; from++ {
			record := &kgo.Record{
				Topic:     topic,
				Timestamp: time.UnixMilli(epoch + from),
				Value:     []byte(fmt.Sprintf("value-%d-%s", from, strings.Repeat("x", int(from%100)))),
				Headers:   []kgo.RecordHeader{{Key: "codec", Value: []byte(name)}, {Key: "client", Value: []byte("go")}},
			}
			if from%10 != 9 {
				record.Key = []byte(fmt.Sprintf("key-%d", from%20))
			}
			cl.Produce(ctx, record, func(_ *kgo.Record, err error) { check(err) })
		}
		check(cl.Flush(ctx))
		cl.Close()
	}
}

// The partitions that the member has; the default balancer is cooperative and tells only the changes.
type assignment struct {
	sync.Mutex
	partitions []int32
}

func (a *assignment) change(added, removed []int32) {
	a.Lock()
	defer a.Unlock()
	a.partitions = slices.DeleteFunc(append(a.partitions, added...), func(p int32) bool { return slices.Contains(removed, p) })
	slices.Sort(a.partitions)
	fmt.Println(strings.TrimRight("assigned "+strings.Trim(fmt.Sprint(a.partitions), "[]"), " "))
}

func member(ctx context.Context, cancel func(), bootstrap, topic, group string, options ...kgo.Opt) {
	var mine assignment
	cl := client(bootstrap, append(options,
		kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
		kgo.SessionTimeout(10*time.Second),
		kgo.HeartbeatInterval(500*time.Millisecond),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, added map[string][]int32) { mine.change(added[topic], nil) }),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, removed map[string][]int32) { mine.change(nil, removed[topic]) }),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, removed map[string][]int32) { mine.change(nil, removed[topic]) }),
	)...)
	go func() {
		bufio.NewReader(os.Stdin).ReadString('\n')
		cancel()
	}()
	for ctx.Err() == nil {
		fetches := cl.PollFetches(ctx)
		fetches.EachRecord(show)
		if !fetches.Empty() {
			check(cl.CommitUncommittedOffsets(context.Background()))
		}
	}
	cl.Close()
}

// Copies a topic to another in transactions, every third of which it aborts, and does again.
func transact(ctx context.Context, bootstrap, source string, rest []string, options ...kgo.Opt) {
	target, group, id, pause := rest[0], rest[1], rest[2], len(rest) > 3
	session, err := kgo.NewGroupTransactSession(append(options,
		kgo.SeedBrokers(bootstrap),
		kgo.WithLogger(kgo.BasicLogger(os.Stderr, kgo.LogLevelWarn, nil)),
		kgo.TransactionalID(id),
		kgo.TransactionTimeout(5*time.Minute),
		kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(source),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		// Not by time is it to be replaced, but by its successor; a restart of the broker may take a while.
		kgo.SessionTimeout(time.Minute),
		kgo.HeartbeatInterval(500*time.Millisecond),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
	)...)
	check(err)
	orders := make(chan string)
	go func() {
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			orders <- lines.Text()
		}
	}()
	for number := 1; ; number++ {
		records := poll(ctx, session)
		for ; len(records) == 0; records = poll(ctx, session) {
			select {
			case <-orders:
				session.Close()
				return
			default:
			}
		}
		check(session.Begin())
		for _, record := range records {
			copied := &kgo.Record{Topic: target, Partition: record.Partition, Key: record.Key, Value: record.Value, Headers: record.Headers, Timestamp: record.Timestamp}
			session.Produce(ctx, copied, func(_ *kgo.Record, err error) {
				if err != nil {
					log.Print(err)
				}
			})
		}
		if pause {
			check(session.Client().Flush(ctx))
			fmt.Println("open")
			<-orders
			pause = false
		}
		committed, err := session.End(ctx, number%3 != 0)
		switch {
		case errors.Is(err, kerr.InvalidProducerEpoch), errors.Is(err, kerr.ProducerFenced), errors.Is(err, kerr.FencedInstanceID):
			fmt.Println("fenced")
			session.Close()
			return
		case err != nil:
			log.Fatal(err)
		case committed:
			fmt.Println("committed")
		default:
			fmt.Println("aborted")
		}
	}
}

func poll(ctx context.Context, session *kgo.GroupTransactSession) []*kgo.Record {
	soon, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	return session.PollRecords(soon, 20).Records()
}

func show(record *kgo.Record) {
	var headers []string
	for _, header := range record.Headers {
		headers = append(headers, header.Key+"="+string(header.Value))
	}
	key := "NULL"
	if record.Key != nil {
		key = string(record.Key)
	}
	fmt.Printf("record\t%d\t%d\t%d\t%s\t%s\t%s\n", record.Partition, record.Offset, record.Timestamp.UnixMilli(), key, record.Value, strings.Join(headers, ","))
}

func offsets(ctx context.Context, bootstrap, topic string, timestamp int64) {
	adm := admin(bootstrap)
	earliest, err := adm.ListStartOffsets(ctx, topic)
	check(err, earliest.Error())
	latest, err := adm.ListEndOffsets(ctx, topic)
	check(err, latest.Error())
	// Above the last timestamp this answers with the end, as kadm documents, where others say -1.
	found, err := adm.ListOffsetsAfterMilli(ctx, timestamp, topic)
	check(err, found.Error())
	for partition := int32(0); int(partition) < len(latest[topic]); partition++ {
		at := found[topic][partition]
		if at.Timestamp < 0 {
			at.Offset = -1
		}
		fmt.Println(partition, earliest[topic][partition].Offset, latest[topic][partition].Offset, at.Offset)
	}
}

func client(bootstrap string, options ...kgo.Opt) *kgo.Client {
	cl, err := kgo.NewClient(append(options, kgo.SeedBrokers(bootstrap), kgo.WithLogger(kgo.BasicLogger(os.Stderr, kgo.LogLevelWarn, nil)))...)
	check(err)
	return cl
}

func admin(bootstrap string) *kadm.Client { return kadm.NewClient(client(bootstrap)) }

func number(text string) int64 {
	value, err := strconv.ParseInt(text, 10, 64)
	check(err)
	return value
}

func check(errs ...error) {
	for _, err := range errs {
		if err != nil {
			log.Fatal(err)
		}
	}
}
