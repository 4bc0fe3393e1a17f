//! What is promised of committed offsets: promise 6, which makes each of them a register that many may write.

use crate::Anomaly;
use crate::history::{CommitAttempt, FetchedOffset, History, Moment};

pub(crate) fn check(history: &History, anomalies: &mut Vec<Anomaly>) {
    for fetched in &history.fetched {
        let commits: Vec<&CommitAttempt> = history
            .commits
            .iter()
            .filter(|commit| commit.group == fetched.group && commit.partition == fetched.partition)
            .collect();
        anomalies.extend(check_one(fetched, &commits));
    }
}

fn check_one(fetched: &FetchedOffset, commits: &[&CommitAttempt]) -> Option<Anomaly> {
    let (group, partition) = (fetched.group.clone(), fetched.partition.clone());
    // A commit that ended before the fetch began, and that began after `moment`, hides what was there then.
    let hides = |since: Option<Moment>| {
        let ended_before =
            |commit: &&&CommitAttempt| commit.acknowledged.is_some_and(|at| at < fetched.begun);
        commits.iter().filter(ended_before).find(|commit| since.is_none_or(|since| since < commit.begun))
    };
    let Some(offset) = fetched.offset else {
        let hidden = hides(None)?;
        return Some(Anomaly::LostCommit { group, partition, fetched: None, committed: hidden.offset });
    };
    let mut hidden = None;
    for commit in commits.iter().filter(|commit| commit.offset == offset && commit.begun < fetched.ended) {
        // One that was never acknowledged may have taken effect just before the fetch.
        match commit.acknowledged.and_then(|at| hides(Some(at))) {
            None => return None,
            Some(by) => hidden = Some(by.offset),
        }
    }
    Some(match hidden {
        Some(committed) => Anomaly::LostCommit { group, partition, fetched: Some(offset), committed },
        None => Anomaly::PhantomCommit { group, partition, fetched: offset },
    })
}
