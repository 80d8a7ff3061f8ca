//! How long what was got for a caller is served, when it is renewed, and what goes when there is no more room.

use super::*;
use tokio::{task::JoinSet, time::advance};

/// The figure of this project: 10,000 first calls of one caller are one exchange. Also stacklok/toolhive#2045 (exchange with caching).
#[tokio::test(start_paused = true)]
async fn ten_thousand_first_calls_of_one_caller_are_one_exchange() {
    let world = Arc::new(World::good());
    let one = world.caller("one");
    let mut calls = JoinSet::new();
    for _ in 0..10_000 {
        let (world, one) = (Arc::clone(&world), Arc::clone(&one));
        calls.spawn(async move { world.get(&one).await.unwrap() });
    }
    let all = calls.join_all().await;
    assert_eq!(world.calls().len(), 1);
    assert!(all.iter().all(|token| token.header == all[0].header));
    belongs(&all[0], &one);
    assert!(world.metric(r#"exchanges_total{credential="orders",error="",result="success"} 1"#));
    assert!(world.metric(r#"caller_cache_lookups_total{credential="orders",result="miss"} 10000"#));
    world.get(&one).await.unwrap();
    assert!(world.metric(r#"caller_cache_lookups_total{credential="orders",result="hit"} 1"#));
}

#[tokio::test(start_paused = true)]
async fn every_caller_gets_their_own() {
    let world = Arc::new(World::good());
    let callers: Vec<_> = (0..300).map(|n| world.caller(&n.to_string())).collect();
    let mut calls = JoinSet::new();
    for caller in callers.iter().chain(&callers) {
        let (world, caller) = (Arc::clone(&world), Arc::clone(caller));
        calls.spawn(async move { belongs(&world.get(&caller).await.unwrap(), &caller) });
    }
    calls.join_all().await;
    assert_eq!(world.calls().len(), 300);
    for caller in &callers {
        belongs(&world.get(caller).await.unwrap(), caller);
    }
    assert_eq!(world.calls().len(), 300);
}

/// envoyproxy/envoy#44674: what has expired is never injected, be it the issued token or the caller's that it was got for.
#[tokio::test(start_paused = true)]
async fn an_expired_token_is_never_served_nor_one_of_a_caller_whose_own_has_expired() {
    let world = World::new(Setup::default(), |_| Answer::Token(secs(600)));
    let short = caller(START + 60, "short", &world.clock);
    let long = world.caller("long");
    let (a, b) = (
        world.get(&short).await.unwrap(),
        world.get(&long).await.unwrap(),
    );
    belongs(&a, &short);
    belongs(&b, &long);
    let (of_short, of_long) = (world.place(&short), world.place(&long));
    let began = Instant::now() - secs(1);
    // Capped by the caller's own life, to the moment.
    assert!(
        of_short
            .slot()
            .load(short.expires_at() - Duration::from_millis(1))
            .is_some()
    );
    assert!(of_short.slot().load(short.expires_at()).is_none());
    // By what was issued, a second before the authority says: clocks differ.
    assert!(of_long.slot().load(began + secs(598)).is_some());
    assert!(of_long.slot().load(began + secs(601)).is_none());
    advance(secs(60)).await;
    let refused = world.get(&short).await.unwrap_err();
    assert_eq!(&*refused.reason, "caller_token_expired");
    assert_eq!(refused.refusal.unwrap().fault, CallerFault::Token);
    assert_eq!(
        world.calls().len(),
        2,
        "an expired token is not sent anywhere"
    );
}

#[tokio::test(start_paused = true)]
async fn it_is_renewed_on_use_when_its_time_has_come_and_serves_meanwhile() {
    let world = World::good();
    let one = world.caller("one");
    let first = world.get(&one).await.unwrap();
    // Nobody is there: nothing is renewed.
    advance(secs(3400)).await;
    sleep(secs(1)).await;
    assert_eq!(world.calls().len(), 1);
    // Somebody is: the old one is served at once, and one exchange starts, however often it is used.
    for _ in 0..10 {
        assert_eq!(world.get(&one).await.unwrap().serial, first.serial);
    }
    sleep(secs(1)).await;
    assert_eq!(world.calls().len(), 2);
    let second = world.get(&one).await.unwrap();
    assert!(second.serial > first.serial);
    belongs(&second, &one);
}

#[tokio::test(start_paused = true)]
async fn a_failed_renewal_leaves_the_old_token_until_it_expires() {
    let world = World::good();
    let one = world.caller("one");
    let first = world.get(&one).await.unwrap();
    world.answer(|_| Answer::Refuse(refuse(500, "server_error")));
    advance(secs(3300)).await;
    for _ in 0..20 {
        assert_eq!(world.get(&one).await.unwrap().serial, first.serial);
        sleep(secs(10)).await;
    }
    assert!(world.calls().len() > 5, "it is tried again on use");
    sleep(secs(200)).await;
    assert_eq!(&*world.get(&one).await.unwrap_err().reason, "server_error");
}

#[tokio::test(start_paused = true)]
async fn it_is_bounded_and_the_least_recently_used_goes() {
    let world = World::good_for(3);
    let callers: Vec<_> = ["a", "b", "c", "d"].map(|id| world.caller(id)).into();
    for caller in &callers[..3] {
        world.get(caller).await.unwrap();
        sleep(secs(1)).await;
    }
    world.get(&callers[0]).await.unwrap();
    world.get(&callers[3]).await.unwrap();
    sleep(secs(2)).await;
    assert!(world.metric(r#"caller_cache_entries{credential="orders"} 3"#));
    assert!(world.metric(r#"caller_cache_evictions_total{credential="orders"} 1"#));
    world.get(&callers[0]).await.unwrap();
    assert_eq!(world.calls().len(), 4, "a is still there");
    belongs(&world.get(&callers[1]).await.unwrap(), &callers[1]);
    assert_eq!(world.calls().len(), 5, "b had gone");
}

#[tokio::test(start_paused = true)]
async fn a_cache_full_of_exchanges_takes_nobody_in_and_forgets_what_has_expired() {
    let limits = CacheLimits {
        max_entries: 2,
        ..CacheLimits::default()
    };
    let world = World::new(
        Setup {
            limits,
            ..Setup::default()
        },
        |_| Answer::Hang,
    );
    let (_a, _b) = (
        world.place(&world.caller("a")),
        world.place(&world.caller("b")),
    );
    assert_eq!(
        world.cache().place(world.caller("c")).err(),
        Some(CacheFull)
    );
    sleep(secs(15)).await;
    assert!(world.cache().place(world.caller("c")).is_ok());
    sleep(secs(60)).await;
    assert!(
        world.metric(r#"caller_cache_entries{credential="orders"} 0"#),
        "bad news are old soon"
    );
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_is_told_when_the_credential_goes() {
    let world = World::new(Setup::default(), |_| Answer::Hang);
    let (one, two) = (world.caller("one"), world.caller("two"));
    let waits = world.place(&one);
    sleep(Duration::from_millis(100)).await;
    let cache = Arc::clone(world.cache());
    drop(world);
    let told = waits
        .slot()
        .wait(Instant::now() + secs(60))
        .await
        .unwrap_err();
    assert_eq!(&*told.reason, "credential_removed");
    // A request that began before the reload still knows the cache.
    let late = cache.place(two).unwrap();
    let told = late
        .slot()
        .wait(Instant::now() + secs(60))
        .await
        .unwrap_err();
    assert_eq!(&*told.reason, "credential_removed");
}
