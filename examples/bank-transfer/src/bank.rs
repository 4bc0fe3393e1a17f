//! The bank: orders, the entries that carry them out, and the books that say what is on the accounts.
//!
//! Nothing here knows of Kafka. A branch of the bank is a partition: its orders stand in a partition of the topic
//! `orders`, and the entries for its accounts in the partitions of the same number of `checking` and `savings`.

use std::fmt;
use std::str::FromStr;

/// The accounts of one kind that a branch has.
pub(crate) const ACCOUNTS: usize = ACCOUNTS_OF_A_KIND as usize;
const ACCOUNTS_OF_A_KIND: u32 = 8;
/// What is on each account when the bank opens.
pub(crate) const OPENING_BALANCE: i64 = 100;
/// All the money of a branch.
pub(crate) const TOTAL: i64 = 2 * ACCOUNTS_OF_A_KIND as i64 * OPENING_BALANCE;

/// The two topics that money moves between.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Ledger {
    Checking,
    Savings,
}

impl Ledger {
    pub(crate) const BOTH: [Self; 2] = [Self::Checking, Self::Savings];

    /// The topic's name.
    pub(crate) const fn topic(self) -> &'static str {
        match self {
            Self::Checking => "checking",
            Self::Savings => "savings",
        }
    }

    const fn other(self) -> Self {
        match self {
            Self::Checking => Self::Savings,
            Self::Savings => Self::Checking,
        }
    }
}

/// What a customer wants: `checking 3 -> savings 5: 25`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Order {
    /// Where the money comes from; it goes to the other one.
    pub(crate) from: Ledger,
    pub(crate) from_account: usize,
    pub(crate) to_account: usize,
    pub(crate) amount: i64,
}

impl Order {
    /// The account that it touches in a ledger, and by how much it changes if there are funds.
    pub(crate) const fn effect(&self, ledger: Ledger) -> (usize, i64) {
        if ledger as u8 == self.from as u8 {
            (self.from_account, -self.amount)
        } else {
            (self.to_account, self.amount)
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, from_account, to_account, amount } = self;
        write!(f, "{} {from_account} -> {} {to_account}: {amount}", from.topic(), from.other().topic())
    }
}

/// What an order did to an account: `order 17: account 3 -25 = 75`. One that was declined changes nothing, and says so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    /// The order's offset.
    pub(crate) order: i64,
    pub(crate) account: usize,
    pub(crate) change: i64,
    /// What is on the account now.
    pub(crate) balance: i64,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "order {}: account {} {:+} = {}", self.order, self.account, self.change, self.balance)
    }
}

/// A text that is neither an order nor an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not what the bank writes")]
pub(crate) struct NotOurs(String);

/// Takes `text` apart: it is to have these pieces, with a value before, between and behind them.
fn pieces<'a, const N: usize>(text: &'a str, separators: &[&str]) -> Result<[&'a str; N], NotOurs> {
    let mut rest = text;
    let mut values = [""; N];
    for (value, separator) in values.iter_mut().zip(separators.iter().chain(&[""])) {
        let whole = (rest, "");
        let cut = if separator.is_empty() { Some(whole) } else { rest.split_once(separator) };
        (*value, rest) = cut.ok_or_else(|| NotOurs(text.to_owned()))?;
    }
    Ok(values)
}

fn number<T: FromStr>(text: &str) -> Result<T, NotOurs> {
    text.parse().map_err(|_| NotOurs(text.to_owned()))
}

fn account(text: &str) -> Result<usize, NotOurs> {
    number(text)
        .and_then(|account| if account < ACCOUNTS { Ok(account) } else { Err(NotOurs(text.to_owned())) })
}

impl FromStr for Order {
    type Err = NotOurs;

    fn from_str(text: &str) -> Result<Self, NotOurs> {
        let [from, from_account, _, to_account, amount] = pieces(text, &[" ", " -> ", " ", ": "])?;
        let from = Ledger::BOTH.into_iter().find(|ledger| ledger.topic() == from);
        let order = Self {
            from: from.ok_or_else(|| NotOurs(text.to_owned()))?,
            from_account: account(from_account)?,
            to_account: account(to_account)?,
            amount: number(amount)?,
        };
        if order.amount > 0 && order.to_string() == text { Ok(order) } else { Err(NotOurs(text.to_owned())) }
    }
}

impl FromStr for Entry {
    type Err = NotOurs;

    fn from_str(text: &str) -> Result<Self, NotOurs> {
        let text = text.strip_prefix("order ").ok_or_else(|| NotOurs(text.to_owned()))?;
        let [order, account_number, change, balance] = pieces(text, &[": account ", " ", " = "])?;
        Ok(Self {
            order: number(order)?,
            account: account(account_number)?,
            change: number(change)?,
            balance: number(balance)?,
        })
    }
}

/// What is on the accounts of a branch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Books {
    balances: [[i64; ACCOUNTS]; 2],
    /// The entries of each ledger that are in the balances: as many as orders have been carried out.
    entries: [i64; 2],
}

impl Default for Books {
    /// The books of a branch that has just opened.
    fn default() -> Self {
        Self { balances: [[OPENING_BALANCE; ACCOUNTS]; 2], entries: [0; 2] }
    }
}

impl Books {
    /// Carries out the next order, or declines it for lack of funds; the entries for both ledgers.
    pub(crate) fn carry_out(&mut self, number: i64, order: &Order) -> [Entry; 2] {
        let funds = self.balance(order.from, order.from_account);
        Ledger::BOTH.map(|ledger| {
            let (account, change) = order.effect(ledger);
            let change = if order.amount <= funds { change } else { 0 };
            let balance = self.balance(ledger, account) + change;
            let entry = Entry { order: number, account, change, balance };
            self.take_over(ledger, &entry);
            entry
        })
    }

    /// Takes over what was written into a ledger before.
    pub(crate) fn take_over(&mut self, ledger: Ledger, entry: &Entry) {
        if let Some(balance) = self.accounts(ledger).get_mut(entry.account) {
            *balance = entry.balance;
        }
        let [checking, savings] = &mut self.entries;
        *(if ledger == Ledger::Checking { checking } else { savings }) += 1;
    }

    /// How many orders have been carried out: of how many both entries are in the books, and of how many one is.
    pub(crate) fn orders(&self) -> (i64, i64) {
        let [checking, savings] = self.entries;
        (checking.min(savings), checking.max(savings))
    }

    fn balance(&self, ledger: Ledger, account: usize) -> i64 {
        let [checking, savings] = &self.balances;
        let accounts = if ledger == Ledger::Checking { checking } else { savings };
        accounts.get(account).copied().unwrap_or_default()
    }

    fn accounts(&mut self, ledger: Ledger) -> &mut [i64; ACCOUNTS] {
        let [checking, savings] = &mut self.balances;
        if ledger == Ledger::Checking { checking } else { savings }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: Order = Order { from: Ledger::Savings, from_account: 3, to_account: 5, amount: 70 };

    #[test]
    fn what_the_bank_writes_it_reads() {
        assert_eq!(ORDER.to_string(), "savings 3 -> checking 5: 70");
        assert_eq!(ORDER.to_string().parse(), Ok(ORDER));
        let entry = Entry { order: 17, account: 3, change: -25, balance: 75 };
        assert_eq!(entry.to_string(), "order 17: account 3 -25 = 75");
        for entry in [entry, Entry { change: 0, ..entry }, Entry { change: 25, ..entry }] {
            assert_eq!(entry.to_string().parse(), Ok(entry));
        }
        for text in [
            "",
            "order",
            "savings 3 -> savings 5: 70",
            "savings 3 -> checking 8: 1",
            "checking 1 -> savings 1: -5",
        ] {
            assert!(text.parse::<Order>().is_err() && text.parse::<Entry>().is_err(), "{text}");
        }
    }

    #[test]
    fn money_moves_while_there_is_some() {
        let mut books = Books::default();
        let [checking, savings] = books.carry_out(0, &ORDER);
        assert_eq!(
            [checking.to_string(), savings.to_string()],
            ["order 0: account 5 +70 = 170", "order 0: account 3 -70 = 30"]
        );
        // There is not so much left.
        let [checking, savings] = books.carry_out(1, &ORDER);
        assert_eq!(
            [checking.to_string(), savings.to_string()],
            ["order 1: account 5 +0 = 170", "order 1: account 3 +0 = 30"]
        );
        assert_eq!((books.balances.iter().flatten().sum::<i64>(), books.orders()), (TOTAL, (2, 2)));
    }

    #[test]
    fn books_are_what_the_ledgers_say() {
        let (mut books, mut restored) = (Books::default(), Books::default());
        for number in 0..3 {
            let entries = books.carry_out(number, &ORDER);
            for (ledger, entry) in Ledger::BOTH.into_iter().zip(&entries) {
                restored.take_over(ledger, entry);
            }
        }
        assert_eq!(restored, books);
    }
}
