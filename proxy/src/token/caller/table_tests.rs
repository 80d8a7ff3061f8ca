//! Bounds, eviction and flights of the table, one thread at a time. All interleavings of several are walked through in `tests/single_flight.rs`.

use super::table::*;
use proptest::prelude::*;

fn key(n: u32) -> Key {
    // Spread over index and shards as a digest is.
    let mut key = [0; 32];
    let mixed = u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    key[..8].copy_from_slice(&mixed.to_le_bytes());
    key[8..12].copy_from_slice(&n.to_le_bytes());
    key[31] = (mixed >> 56) as u8;
    key
}

type Small = Table<u32, u64>;

fn enter(table: &Small, n: u32, now: u64) -> Option<Entered<u32>> {
    table.enter(&key(n), now, |_| false, || n, |_| {})
}

fn landing(next: u64, dead: u64) -> Landing<u64> {
    Landing {
        next,
        dead,
        bytes: 100,
    }
}

#[test]
fn one_flight_at_a_time_and_none_before_its_time() {
    let table = Small::new(4, 10, 1 << 20);
    assert!(enter(&table, 1, 0).unwrap().start);
    assert!(!enter(&table, 1, 0).unwrap().start, "in flight");
    table.land(&key(1), 0, landing(50, 100));
    assert!(!enter(&table, 1, 49).unwrap().start, "too soon");
    assert!(enter(&table, 1, 50).unwrap().start);
    assert!(!enter(&table, 1, 60).unwrap().start, "in flight again");
    table.land(&key(1), 60, landing(200, 300));
    let forced = |n| table.enter(&key(1), 61, |v| *v == n, || 9, |_| {}).unwrap();
    assert!(!forced(2).start, "that is about another value");
    assert!(forced(1).start);
    assert!(!forced(1).start, "once");
}

#[test]
fn the_dead_go_first_then_the_least_recently_used_and_never_one_in_flight() {
    let table = Small::new(1, 3, 1 << 20);
    for (n, dead) in [(1, 100), (2, 5), (3, 100)] {
        enter(&table, n, u64::from(n)).unwrap();
        table.land(&key(n), u64::from(n), landing(90, dead));
    }
    let there = |table: &Small| {
        let mut all = table.values();
        all.sort_unstable();
        all
    };
    assert_eq!(enter(&table, 4, 10).unwrap().evicted, 1);
    assert_eq!(there(&table), [1, 3, 4], "2 was dead");
    enter(&table, 1, 11).unwrap();
    assert_eq!(enter(&table, 5, 12).unwrap().evicted, 1);
    assert_eq!(there(&table), [1, 4, 5], "3 was used least recently");
    enter(&table, 6, 13).unwrap();
    assert_eq!(there(&table), [4, 5, 6]);
    assert!(enter(&table, 7, 14).is_none(), "nothing but flights");
    assert_eq!(table.len(), 3);
    table.land(&key(4), 15, landing(90, 100));
    assert!(enter(&table, 7, 16).is_some());
    assert_eq!(there(&table), [5, 6, 7]);
}

#[test]
fn bytes_are_bounded_too() {
    let table = Small::new(2, 1000, 10 * (ENTRY_BYTES + 100));
    for n in 0..50 {
        enter(&table, n, u64::from(n)).unwrap();
        table.land(&key(n), u64::from(n), landing(900, 1000));
        assert!(table.bytes() <= 10 * (ENTRY_BYTES + 100));
    }
    assert_eq!(table.len(), 10);
    // One that is larger than all room there is does not stay.
    enter(&table, 99, 60).unwrap();
    table.land(
        &key(99),
        60,
        Landing {
            next: 1,
            dead: 1000,
            bytes: 1 << 20,
        },
    );
    assert!(table.bytes() <= 10 * (ENTRY_BYTES + 100));
}

#[test]
fn sweeping_takes_the_dead_alone() {
    let table = Small::new(4, 100, 1 << 20);
    for n in 0..40 {
        enter(&table, n, 0).unwrap();
        if n % 4 != 0 {
            table.land(&key(n), 0, landing(5, u64::from(n)));
        }
    }
    assert_eq!(table.sweep(20), 15);
    assert_eq!(table.len(), 25);
    assert_eq!(table.values().len(), 25);
    assert!(!enter(&table, 0, 20).unwrap().start, "still in flight");
    assert_eq!(table.sweep(20), 0);
}

/// The least recently used of a sample is not the least recently used of all, but it is never one of the recent half.
#[test]
fn what_is_in_use_survives_a_crowd_of_strangers() {
    let table = Small::new(4, 1000, 1 << 30);
    let mut now = 0;
    for n in 0..1000 {
        now += 1;
        enter(&table, n, now).unwrap();
        table.land(&key(n), now, landing(1 << 40, 1 << 40));
    }
    for stranger in 1000..1400 {
        now += 1;
        for regular in 900..1000 {
            assert_eq!(enter(&table, regular, now).unwrap().value, regular);
        }
        enter(&table, stranger, now).unwrap();
        table.land(&key(stranger), now, landing(1 << 40, 1 << 40));
    }
    let kept = table
        .values()
        .into_iter()
        .filter(|v| (900..1000).contains(v))
        .count();
    assert_eq!(kept, 100);
    assert_eq!(table.len(), 1000);
}

#[derive(Debug, Clone)]
enum Step {
    Enter(u32),
    Land(u32, u64, u64),
    Sweep,
    Wait(u64),
}

proptest! {
    #[test]
    fn counts_agree_with_what_is_there_and_flights_never_double(
        steps in proptest::collection::vec(prop_oneof![
            (0_u32..12).prop_map(Step::Enter),
            (0_u32..12, 0_u64..9, 0_u64..9).prop_map(|(n, next, dead)| Step::Land(n, next, dead)),
            Just(Step::Sweep),
            (0_u64..5).prop_map(Step::Wait),
        ], 1..200), shards in 1_usize..4, max in 1_usize..8,
    ) {
        let table = Small::new(shards, max, 5 * (ENTRY_BYTES + 100));
        let mut flights = std::collections::HashSet::new();
        let mut now = 0;
        for step in steps {
            match step {
                Step::Enter(n) => match enter(&table, n, now) {
                    Some(entered) => {
                        prop_assert_eq!(entered.value, n);
                        prop_assert!(!entered.start || flights.insert(n), "two flights of one key");
                    }
                    None => prop_assert!(flights.len() >= max),
                },
                Step::Land(n, next, dead) => if flights.remove(&n) {
                    table.land(&key(n), now, landing(now + next, now + dead));
                },
                Step::Sweep => { table.sweep(now); }
                Step::Wait(more) => now += more,
            }
            prop_assert_eq!(table.len(), table.values().len());
            prop_assert!(table.len() <= max);
            let there: std::collections::HashSet<_> = table.values().into_iter().collect();
            prop_assert!(flights.is_subset(&there), "a flight was evicted");
        }
    }
}
