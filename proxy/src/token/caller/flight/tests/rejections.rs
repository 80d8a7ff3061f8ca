//! Upstreams that answer 401 to what was injected: the token is dropped, and there is one exchange, for all who were told.

use super::*;
use http::HeaderValue;
use tokio::task::JoinSet;

#[tokio::test(start_paused = true)]
async fn a_rejected_token_is_evicted_and_replaced_by_one_exchange_however_many_tell() {
    let world = Arc::new(World::good());
    let (one, other) = (world.caller("one"), world.caller("other"));
    let first = world.get(&one).await.unwrap();
    let kept = world.get(&other).await.unwrap();
    let mut calls = JoinSet::new();
    for _ in 0..100 {
        let (world, one, serial) = (Arc::clone(&world), Arc::clone(&one), first.serial);
        calls.spawn(async move {
            let mut place = world.place(&one);
            let told = world.cache().reject(&mut place, serial, None);
            assert_eq!(told, Rejection::Replacing);
            replaced(&place, serial).await
        });
    }
    for token in calls.join_all().await {
        assert!(token.serial > first.serial);
        belongs(&token, &one);
    }
    assert_eq!(world.calls().len(), 3);
    assert_eq!(
        world.get(&other).await.unwrap().serial,
        kept.serial,
        "nobody else's is touched"
    );
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_rejects_every_token_does_not_make_every_request_an_exchange() {
    let world = World::new(
        Setup {
            takes: Duration::ZERO,
            ..Setup::default()
        },
        |_| Answer::Token(secs(3600)),
    );
    let one = world.caller("one");
    for _ in 0..100 {
        let token = world.get(&one).await.unwrap();
        let mut place = world.place(&one);
        if world.cache().reject(&mut place, token.serial, None) == Rejection::Replacing {
            replaced(&place, token.serial).await;
        }
        sleep(Duration::from_millis(100)).await;
    }
    // 10 s: after 1, 2, 4 s.
    assert!(world.calls().len() <= 6, "{}", world.calls().len());
}

#[tokio::test(start_paused = true)]
async fn an_upstreams_claims_go_with_the_exchange_and_what_the_authority_asks_comes_back() {
    let world = World::good();
    let one = world.caller("one");
    let first = world.get(&one).await.unwrap();
    world.answer(|call| match &call.claims {
        Some(claims) => Answer::Refuse(AuthoritySays {
            claims: Some(claims.clone()),
            ..refuse(400, "interaction_required")
        }),
        None => Answer::Token(secs(3600)),
    });
    let mut place = world.place(&one);
    world
        .cache()
        .reject(&mut place, first.serial, Some(r#"{"a":1}"#));
    let refused = place
        .slot()
        .wait(Instant::now() + secs(2))
        .await
        .unwrap_err();
    assert_eq!(
        refused.refusal.unwrap().claims.as_deref(),
        Some(r#"{"a":1}"#)
    );
    assert_eq!(world.calls()[1].claims.as_deref(), Some(r#"{"a":1}"#));
    // The next request is asked for nothing that this one was.
    belongs(&world.get(&one).await.unwrap(), &one);
    assert_eq!(world.calls()[2].claims, None);
}

#[tokio::test(start_paused = true)]
async fn claims_that_the_authority_cannot_read_do_not_cost_the_caller_their_token() {
    let world = World::good();
    let one = world.caller("one");
    let first = world.get(&one).await.unwrap();
    world.answer(|call| match &call.claims {
        Some(_) => Answer::Refuse(refuse(400, "unsupported_response_type")),
        None => Answer::Token(secs(3600)),
    });
    let mut place = world.place(&one);
    world.cache().reject(&mut place, first.serial, Some("{}"));
    let fresh = replaced(&place, first.serial).await;
    belongs(&fresh, &one);
    assert_eq!(world.calls().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn claims_are_not_sent_by_a_grant_that_has_no_place_for_them() {
    let world = World::new(
        Setup {
            takes_claims: false,
            ..Setup::default()
        },
        |_| Answer::Token(secs(3600)),
    );
    let one = world.caller("one");
    let first = world.get(&one).await.unwrap();
    let mut place = world.place(&one);
    world.cache().reject(&mut place, first.serial, Some("{}"));
    replaced(&place, first.serial).await;
    assert_eq!(world.calls()[1].claims, None);
}

/// A request may hold a slot that had to make room meanwhile.
#[tokio::test(start_paused = true)]
async fn a_rejection_of_an_evicted_token_is_still_one_exchange() {
    let world = World::good_for(1);
    let (one, other) = (world.caller("one"), world.caller("other"));
    let first = world.get(&one).await.unwrap();
    let mut place = world.place(&one);
    world.get(&other).await.unwrap();
    assert_eq!(
        world.cache().reject(&mut place, first.serial, None),
        Rejection::Replacing
    );
    let fresh = replaced(&place, first.serial).await;
    belongs(&fresh, &one);
    assert_eq!(world.calls().len(), 3);
    assert_eq!(world.get(&one).await.unwrap().serial, fresh.serial);
}

/// An upstream may reject a token before the exchange that brought it has quite ended: whoever waits for the next one must not wait for nobody.
#[tokio::test(start_paused = true)]
async fn a_rejection_between_a_token_and_its_landing_is_acted_upon() {
    let (sender, mut wanted) = tokio::sync::mpsc::unbounded_channel();
    let metrics = TokenMetrics::register(&Registry::new()).unwrap();
    let cache = CallerCache::new(
        "orders".into(),
        &params(CacheLimits::default(), secs(10)).grant,
        CacheLimits::default(),
        sender,
        metrics.caller_cache("orders"),
    );
    let one = caller(FAR, "one", &Clock::anchored(secs(START)));
    let mut place = cache.place(one).unwrap();
    let flight = wanted.try_recv().unwrap();
    let header = HeaderValue::from_static("Bearer first");
    let expires_at = Instant::now() + secs(3600);
    let serial = flight.slot.store(header, expires_at);
    assert_eq!(cache.reject(&mut place, serial, None), Rejection::Replacing);
    assert!(wanted.try_recv().is_err(), "one at a time");
    flight.land(expires_at, 12);
    let next = wanted.try_recv().expect("somebody must ask");
    assert!(Arc::ptr_eq(&next.slot, place.slot()), "for those who wait");
    // A refusal that is not remembered starts nothing by itself.
    assert!(next.slot.take_rejected().is_some());
    next.slot.publish(Activity::Refused {
        until: Instant::now(),
        refusal: Arc::new(Refusal {
            fault: CallerFault::Interaction,
            code: "interaction_required",
            claims: None,
        }),
    });
    next.land(Instant::now(), 0);
    assert!(wanted.try_recv().is_err());
}
