//! The proof. It knows nothing of Kafka, nor of the tellers' books: only what stands in the three topics at the end.
//!
//! Every order has one entry in each of the two ledgers, in the order of the orders. So the committed history of a
//! branch is a walk: entry `n` of `checking` and entry `n` of `savings` are what order `n` did, and after each step the
//! sum over all accounts must be what it was. What is lost, applied twice, applied in part or out of order cannot but
//! break that walk.

use std::collections::BTreeMap;

use crate::bank::{ACCOUNTS, Entry, Ledger, OPENING_BALANCE, Order, TOTAL};

/// What stands in the topics of a branch, committed, in the order of offsets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Branch {
    /// From offset 0 on.
    pub(crate) orders: Vec<Order>,
    pub(crate) checking: Vec<Entry>,
    pub(crate) savings: Vec<Entry>,
}

/// What a bank must not do.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Violation {
    #[error("order {0} was never carried out")]
    Lost(usize),
    #[error("order {order} was carried out in part: not in {}", .missing.topic())]
    Partial { order: usize, missing: Ledger },
    #[error("order {order} was carried out {times} times in {}", .ledger.topic())]
    Repeated { order: usize, ledger: Ledger, times: usize },
    #[error("{} has an entry for order {order}, which nobody gave", .ledger.topic())]
    Unknown { order: i64, ledger: Ledger },
    #[error("in {} the entry for order {found} stands where that for order {order} should be", .ledger.topic())]
    OutOfOrder { order: usize, ledger: Ledger, found: i64 },
    #[error("order {order} is not what was done in {}: {entry}", .ledger.topic())]
    Wrong { order: usize, ledger: Ledger, entry: Entry },
    #[error("after order {order} there are {sum} instead of {TOTAL}")]
    Sum { order: usize, sum: i64 },
}

/// What a branch that keeps to the rules has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Summary {
    /// Orders by which money moved.
    pub(crate) transfers: usize,
    /// Orders without funds.
    pub(crate) declined: usize,
}

/// Goes through the books of a branch.
///
/// # Errors
/// All violations of one kind of rule: first whether each order has its entries, then whether they are right.
pub(crate) fn audit(branch: &Branch) -> Result<Summary, Vec<Violation>> {
    let violations = check_entries(branch);
    if !violations.is_empty() {
        return Err(violations);
    }
    walk(branch)
}

/// Each order has one entry in each ledger, and there are no others.
fn check_entries(branch: &Branch) -> Vec<Violation> {
    let count = |entries: &[Entry]| {
        let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
        for entry in entries {
            *counts.entry(entry.order).or_default() += 1;
        }
        counts
    };
    let mut counts = [(Ledger::Checking, count(&branch.checking)), (Ledger::Savings, count(&branch.savings))];
    let mut violations = Vec::new();
    for (number, order) in (0..).zip(0..branch.orders.len()) {
        let times = counts.each_mut().map(|(ledger, counts)| (*ledger, counts.remove(&number).unwrap_or(0)));
        match times {
            [(_, 0), (_, 0)] => violations.push(Violation::Lost(order)),
            [(missing, 0), _] | [_, (missing, 0)] => violations.push(Violation::Partial { order, missing }),
            [(_, 1), (_, 1)] => {}
            all => {
                let repeated = all.into_iter().filter(|&(_, times)| times > 1);
                violations.extend(repeated.map(|(ledger, times)| Violation::Repeated {
                    order,
                    ledger,
                    times,
                }));
            }
        }
    }
    for (ledger, counts) in counts {
        violations.extend(counts.into_keys().map(|order| Violation::Unknown { order, ledger }));
    }
    violations
}

/// Step by step: the entries are those of the order whose turn it is, they are right, and the sum stays.
fn walk(branch: &Branch) -> Result<Summary, Vec<Violation>> {
    let mut balances = [[OPENING_BALANCE; ACCOUNTS]; 2];
    let mut summary = Summary::default();
    let mut violations = Vec::new();
    let entries = branch.checking.iter().zip(&branch.savings);
    for ((order, wanted), (checking, savings)) in branch.orders.iter().enumerate().zip(entries) {
        let [checking_balances, savings_balances] = &mut balances;
        let source = if wanted.from == Ledger::Checking { &*checking_balances } else { &*savings_balances };
        let has_funds = source.get(wanted.from_account).is_some_and(|&funds| wanted.amount <= funds);
        for (ledger, entry, balances) in
            [(Ledger::Checking, checking, checking_balances), (Ledger::Savings, savings, savings_balances)]
        {
            if usize::try_from(entry.order) != Ok(order) {
                violations.push(Violation::OutOfOrder { order, ledger, found: entry.order });
                continue;
            }
            let (account, change) = wanted.effect(ledger);
            let change = if has_funds { change } else { 0 };
            let Some(balance) = balances.get_mut(entry.account) else { continue };
            *balance += entry.change;
            if (entry.account, entry.change, entry.balance) != (account, change, *balance) {
                violations.push(Violation::Wrong { order, ledger, entry: *entry });
            }
        }
        let sum: i64 = balances.iter().flatten().sum();
        if sum != TOTAL {
            violations.push(Violation::Sum { order, sum });
        }
        *(if has_funds { &mut summary.transfers } else { &mut summary.declined }) += 1;
    }
    if violations.is_empty() { Ok(summary) } else { Err(violations) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bank::Books;

    /// A branch that keeps to the rules: money goes to and fro, and now and then there is not enough.
    fn good() -> Branch {
        let mut branch = Branch::default();
        let mut books = Books::default();
        for (number, amount) in (0..).zip([60, 30, 60, 5, 90, 100]) {
            let from = if number % 2 == 0 { Ledger::Checking } else { Ledger::Savings };
            let order = Order { from, from_account: 1, to_account: 2, amount };
            let [checking, savings] = books.carry_out(number, &order);
            branch.orders.push(order);
            branch.checking.push(checking);
            branch.savings.push(savings);
        }
        branch
    }

    fn planted(plant: impl FnOnce(&mut Branch)) -> Vec<Violation> {
        let mut branch = good();
        plant(&mut branch);
        audit(&branch).expect_err("it was planted to be found")
    }

    #[test]
    fn a_branch_that_keeps_to_the_rules_passes() {
        assert_eq!(audit(&good()), Ok(Summary { transfers: 3, declined: 3 }));
    }

    #[test]
    fn lost() {
        let found = planted(|branch| {
            branch.checking.remove(3);
            branch.savings.remove(3);
        });
        assert_eq!(found, [Violation::Lost(3)]);
    }

    #[test]
    fn applied_in_part() {
        let found = planted(|branch| {
            branch.savings.remove(0);
            branch.checking.remove(5);
        });
        let partial = |order, missing| Violation::Partial { order, missing };
        assert_eq!(found, [partial(0, Ledger::Savings), partial(5, Ledger::Checking)]);
    }

    #[test]
    fn applied_twice() {
        for again in 0..2 {
            let found = planted(|branch| {
                branch.checking.insert(2, branch.checking[again]);
                branch.savings.insert(2, branch.savings[again]);
            });
            let twice = |ledger| Violation::Repeated { order: again, ledger, times: 2 };
            assert_eq!(found, [twice(Ledger::Checking), twice(Ledger::Savings)]);
        }
        let found = planted(|branch| branch.savings.push(branch.savings[5]));
        assert_eq!(found, [Violation::Repeated { order: 5, ledger: Ledger::Savings, times: 2 }]);
    }

    #[test]
    fn applied_for_nobody() {
        let found = planted(|branch| branch.savings.push(Entry { order: 6, ..branch.savings[5] }));
        assert_eq!(found, [Violation::Unknown { order: 6, ledger: Ledger::Savings }]);
    }

    #[test]
    fn out_of_order() {
        let found = planted(|branch| branch.savings.swap(1, 2));
        assert!(
            found.contains(&Violation::OutOfOrder { order: 1, ledger: Ledger::Savings, found: 2 }),
            "{found:?}"
        );
    }

    #[test]
    fn money_that_is_made_or_lost_or_spent_twice() {
        // By a teller that did not know of the last order.
        let found =
            planted(|branch| branch.checking[2] = Entry { change: -60, balance: 40, ..branch.checking[2] });
        assert!(matches!(found[0], Violation::Wrong { order: 2, ledger: Ledger::Checking, .. }), "{found:?}");
        assert!(found.contains(&Violation::Sum { order: 2, sum: TOTAL - 60 }), "{found:?}");
        // The change is right, but not the balance that goes with it.
        let found = planted(|branch| branch.checking[1].balance += 1);
        assert!(
            matches!(found[..], [Violation::Wrong { order: 1, ledger: Ledger::Checking, .. }]),
            "{found:?}"
        );
    }
}
