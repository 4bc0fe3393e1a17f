//! Groups.

use crate::row::metrics;

metrics! {
    GROUPS "dohle_groups": Gauge, ["type", "state"], "Groups that this node coordinates.";

    GROUP_MEMBERS "dohle_group_members": Gauge, ["group"], "Members of the group.";

    GROUP_STATE "dohle_group_state": Gauge, ["group", "type", "state"], "1 for the state that the group is in.";

    GROUP_LAG "dohle_group_lag": Gauge, ["group", "topic", "partition"], "Records from the committed offset to the high watermark.";

    GROUP_LAG_SECONDS "dohle_group_lag_seconds": Gauge, ["group", "topic", "partition"], "Age of the first record that is not read. Of a log that nobody has asked for since the start it is not known; nor, where many groups are far behind, of those that were not looked up within a second.";

    GROUP_LAG_STATE "dohle_group_lag_state": Gauge, ["group", "topic", "partition"], "How the consumer does: 0 ok, 1 slow, 2 stuck, 3 stopped.";

    REBALANCES "dohle_group_rebalances_total": Counter, ["cause"], "Rebalances, by what began them.";

    SUPERSEDED "dohle_group_rebalances_superseded_total": Counter, ["cause"], "Rebalances that the next one interrupted.";

    MEMBERSHIPS "dohle_group_membership_changes_total": Counter, ["cause"], "Changes of a membership without a rebalance.";

    MOVED "dohle_group_partitions_moved_total": Counter, ["cause"], "Partitions that moved in rebalances.";

    REBALANCE_SECONDS "dohle_group_rebalance_seconds": Histogram, ["cause"], "How long rebalances took, in ranges that end at 0.1, 0.3, 1, 3, 10, 30, 60, 180 and 600 seconds.";

    WITHOUT_OWNER_SECONDS "dohle_group_without_owner_seconds": Histogram, ["cause"], "How long a partition was without owner in a rebalance: the longest of each; in the same ranges.";

    STORMS "dohle_group_storms_total": Counter, [], "Storms of rebalances.";

    JOURNAL_DROPPED "dohle_group_journal_dropped_total": Counter, [], "Entries that the journal of groups lacks, because they could not be written.";

    WINDOWS "dohle_group_commit_windows": Gauge, [], "Partitions of groups whose latest commits are remembered, to judge how their consumers do.";

    WINDOWS_LIMIT "dohle_group_commit_windows_limit": Gauge, [], "How many there may be; of others the state is judged by their last commit.";
}
