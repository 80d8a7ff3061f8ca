//! The authority under many callers: how much is asked of it at once, and when it is left alone.

use super::*;
use tokio::task::JoinSet;

/// The figure of this project: 1,000 callers at once, an authority that takes 200 ms. So many at once as allowed, everybody served in the time that takes.
#[tokio::test(start_paused = true)]
async fn a_thousand_callers_at_once_are_served_at_a_bounded_rate_and_nobody_waits_for_anothers_failure()
 {
    let world = Arc::new(World::new(Setup::default(), |call| {
        // A tenth fails, each in the way of its own.
        match call
            .caller
            .as_bytes()
            .iter()
            .fold(0_u32, |h, b| h.wrapping_mul(31) + u32::from(*b))
            % 20
        {
            0 => Answer::Refuse(refuse(400, "invalid_grant")),
            1 => Answer::Refuse(refuse(400, "interaction_required")),
            _ => Answer::Token(secs(3600)),
        }
    }));
    let began = Instant::now();
    let mut calls = JoinSet::new();
    for n in 0..1000 {
        let world = Arc::clone(&world);
        calls.spawn(async move {
            let caller = world.caller(&n.to_string());
            match world.get(&caller).await {
                Ok(token) => {
                    belongs(&token, &caller);
                    true
                }
                Err(unavailable) => {
                    assert!(unavailable.refusal.is_some(), "{unavailable:?}");
                    false
                }
            }
        });
    }
    let served = calls
        .join_all()
        .await
        .into_iter()
        .filter(|served| *served)
        .count();
    assert!((850..950).contains(&served), "{served}");
    assert_eq!(world.calls().len(), 1000);
    assert_eq!(world.script.most.load(SeqCst), 128);
    // Eight rounds of 128.
    assert_eq!(began.elapsed().as_millis() / 10, 160);
}

#[tokio::test(start_paused = true)]
async fn a_hung_exchange_holds_one_permit_until_its_timeout_and_delays_no_other() {
    let limits = CacheLimits {
        max_exchanges: 2,
        ..CacheLimits::default()
    };
    let world = World::new(
        Setup {
            limits,
            ..Setup::default()
        },
        |call| {
            if call.caller == jwt(FAR, "hangs") {
                Answer::Hang
            } else {
                Answer::Token(secs(3600))
            }
        },
    );
    let began = Instant::now();
    let hangs = world.place(&world.caller("hangs"));
    for n in 0..10 {
        let caller = world.caller(&n.to_string());
        belongs(&world.get(&caller).await.unwrap(), &caller);
    }
    assert_eq!(began.elapsed().as_millis() / 10, 200);
    let told = hangs
        .slot()
        .wait(Instant::now() + secs(60))
        .await
        .unwrap_err();
    assert_eq!(&*told.reason, "timeout");
    assert_eq!(began.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn an_authority_that_fails_for_several_callers_is_left_alone_and_named_and_others_are_told_at_once()
 {
    let mut breakers = Breakers::default();
    let params = params(CacheLimits::default(), secs(10));
    let breaker = breakers.of(&params);
    assert!(
        Arc::ptr_eq(&breaker, &breakers.of(&params)),
        "one for all credentials of an authority"
    );
    let world = World::new(
        Setup {
            breaker: Arc::clone(&breaker),
            ..Setup::default()
        },
        |_| Answer::Refuse(refuse(503, "temporarily_unavailable")),
    );
    let other = World::new(
        Setup {
            breaker,
            ..Setup::default()
        },
        |_| Answer::Token(secs(3600)),
    );
    let served = other.caller("served");
    other.get(&served).await.unwrap();
    for n in 0..9 {
        world.get(&world.caller(&n.to_string())).await.unwrap_err();
    }
    let one = world.person("p0");
    assert!(
        !matches!(world.get(&one).await, Err(u) if &*u.reason == "authority_unhealthy"),
        "nine tokens are of one person, who may be the cause"
    );
    for n in 1..4 {
        let person = world.person(&format!("p{n}"));
        world.get(&person).await.unwrap_err();
    }
    assert_eq!(world.calls().len(), 13);
    let now = Instant::now();
    for world in [&world, &other] {
        let refused = world.get(&world.caller("new")).await.unwrap_err();
        assert_eq!(&*refused.reason, "authority_unhealthy");
        assert!(refused.refusal.is_none() && refused.retry_after <= secs(2));
    }
    assert_eq!(now.elapsed(), Duration::ZERO, "at once");
    belongs(&other.get(&served).await.unwrap(), &served);
    let condition = world.condition();
    assert!(condition.ready, "callers with a token are served");
    assert!(condition.warning.unwrap().reason.contains("left alone"));
    // It works again: the first to come finds out, and all are served.
    world.answer(|_| Answer::Token(secs(3600)));
    sleep(secs(3)).await;
    let first = world.caller("first");
    belongs(&world.get(&first).await.unwrap(), &first);
    let second = other.caller("new");
    belongs(&other.get(&second).await.unwrap(), &second);
    sleep(secs(2)).await;
    assert_eq!(world.condition().warning, None);
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_obeyed_for_all_callers() {
    let world = World::new(Setup::default(), |_| {
        Answer::Refuse(AuthoritySays {
            retry_after: Some(secs(20)),
            ..refuse(429, "slow_down")
        })
    });
    let first = world.get(&world.caller("one")).await.unwrap_err();
    assert!(first.retry_after >= secs(20), "{first:?}");
    for n in 0..30 {
        let refused = world
            .get(&world.caller(&format!("n{n}")))
            .await
            .unwrap_err();
        assert!(refused.retry_after <= secs(22));
        if n < 19 {
            sleep(secs(1)).await;
        }
    }
    assert_eq!(world.calls().len(), 1);
    sleep(secs(4)).await;
    world.answer(|_| Answer::Token(secs(3600)));
    world.get(&world.caller("late")).await.unwrap();
}
