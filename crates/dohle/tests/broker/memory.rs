//! `dohle.memory.max`: many clients together want much more memory than there is. The broker keeps to it, each of them
//! is served in its turn, and a bystander goes on meanwhile. `cargo xtask scale memory` does the same with more.

use std::io::{ErrorKind, Write};

use dohle_protocol::encode_request;
use dohle_protocol::messages::{FetchRequest, ProduceRequest};
use dohle_records::BatchOptions;

use crate::client::{Client, FETCH_VERSION, PRODUCE_VERSION, batch, fetch_request, produce_request};
use crate::hostile::{MIB, withstand_with};
use crate::process::until;

/// The least there may be: 4 MiB for large requests, and as much for answers.
const BUDGET: &str = "dohle.memory.max=16777216";
/// What the process may have at the most: the budget, its code, stacks and tables, and what the allocator keeps, which
/// the load of the machine decides. The clients together want 80 MiB here and 700 there.
const MEMORY_MAX: u64 = (16 + 48) * MIB;

const RECORD_BYTES: usize = 500_000;

#[test]
fn requests_that_are_half_sent_keep_to_their_share_and_all_of_them_get_through() {
    const CLIENTS: usize = 160;
    withstand_with(&[BUDGET], MEMORY_MAX, |broker, topic, bystander_goes_on| {
        let records = batch(BatchOptions::default(), &[&[7; RECORD_BYTES]]);
        let request = encode_request(1, Some("test"), &produce_request(topic, 1, records), PRODUCE_VERSION);
        let request = request.unwrap().into_bytes();
        let mut clients: Vec<(Client, usize)> =
            (0..CLIENTS).map(|_| (Client::connect(&broker.address), 0)).collect();
        send_until(&mut clients, &request, request.len() / 10 * 9, bystander_goes_on);
        bystander_goes_on();
        send_until(&mut clients, &request, request.len(), bystander_goes_on);
        for (client, _) in &mut clients {
            client.stream.set_nonblocking(false).unwrap();
            let (_, response) = client.receive::<ProduceRequest>(PRODUCE_VERSION).unwrap();
            assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
        }
    });
}

/// Each client sends what the sockets take, until they have sent so many bytes, or none can send any more.
fn send_until(clients: &mut [(Client, usize)], request: &[u8], end: usize, bystander_goes_on: &dyn Fn()) {
    let mut quiet = 0;
    while quiet < 3 && clients.iter().any(|&(_, sent)| sent < end) {
        let before: usize = clients.iter().map(|&(_, sent)| sent).sum();
        for (client, sent) in &mut *clients {
            client.stream.set_nonblocking(true).unwrap();
            match client.stream.write(&request[*sent..end.max(*sent)]) {
                Ok(count) => *sent += count,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        let after: usize = clients.iter().map(|&(_, sent)| sent).sum();
        if before == after {
            bystander_goes_on();
            // Whoever has sent all of it is answered, and makes room for others.
            quiet += usize::from(end < request.len());
        }
    }
}

#[test]
fn answers_that_nobody_reads_keep_to_their_share_and_all_of_them_come() {
    const CLIENTS: usize = 60;
    const RECORDS: i64 = 24;
    withstand_with(&[BUDGET], MEMORY_MAX, |broker, topic, bystander_goes_on| {
        let mut client = Client::connect(&broker.address);
        for _ in 0..RECORDS {
            assert_eq!(client.produce(topic, 1, &[&[7; RECORD_BYTES]]), 0);
        }
        let mut request = fetch_request(topic, 1, 0, 30_000);
        request.max_bytes = i32::MAX;
        let partitions = &mut request.topics[0].partitions;
        partitions[0].partition_max_bytes = i32::MAX;
        let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::connect(&broker.address)).collect();
        for client in &mut clients {
            client.send(&request, FETCH_VERSION).unwrap();
        }
        bystander_goes_on();
        for client in &mut clients {
            until("there are records", || {
                let (_, response) = client.receive::<FetchRequest>(FETCH_VERSION).unwrap();
                let partition = &response.responses[0].partitions[0];
                assert_eq!(partition.error_code, 0);
                let bytes = partition.records.as_ref().map_or(0, |records| records.len());
                assert!(bytes <= 1 << 20, "a part of what there is room for");
                if bytes == 0 {
                    client.send(&request, FETCH_VERSION).unwrap();
                }
                (bytes > 0).then_some(())
            });
        }
    });
}

#[test]
fn a_request_for_which_there_is_never_room_is_refused() {
    withstand_with(&[BUDGET], MEMORY_MAX, |broker, _, _| {
        let mut client = Client::connect(&broker.address);
        // Less than socket.request.max.bytes, and more than all large requests have together.
        client.stream.write_all(&(5_u32 << 20).to_be_bytes()).unwrap();
        client.assert_closed();
    });
}
