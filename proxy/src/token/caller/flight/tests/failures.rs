//! Whose failure it is, how long it is remembered, and whom it concerns.

use super::*;

async fn calls_within(world: &World, caller: &Arc<CallerToken>, seconds: u64) -> usize {
    let before = world.calls().len();
    for _ in 0..seconds * 10 {
        world.get(caller).await.unwrap_err();
        sleep(Duration::from_millis(100)).await;
    }
    world.calls().len() - before
}

fn quick() -> Setup {
    Setup {
        takes: Duration::ZERO,
        ..Setup::default()
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_the_callers_fault_is_told_to_them_and_touches_nobody_else() {
    let world = World::new(quick(), |call| {
        if call.caller == jwt(FAR, "bad") {
            Answer::Refuse(refuse(400, "invalid_grant"))
        } else {
            Answer::Token(secs(3600))
        }
    });
    let (bad, good) = (world.caller("bad"), world.caller("good"));
    let refused = world.get(&bad).await.unwrap_err();
    assert_eq!(&*refused.reason, "invalid_grant");
    assert_eq!(
        *refused.refusal.unwrap(),
        Refusal {
            fault: CallerFault::Token,
            code: "invalid_grant",
            claims: None
        }
    );
    belongs(&world.get(&good).await.unwrap(), &good);
    // The same token meets the same answer: it is remembered, for a while.
    assert_eq!(calls_within(&world, &bad, 25).await, 0);
    assert_eq!(calls_within(&world, &bad, 10).await, 1);
    // Good health as far as the authority goes.
    assert_eq!(world.condition().warning, None);
}

#[tokio::test(start_paused = true)]
async fn a_step_up_is_never_remembered() {
    let claims = r#"{"access_token":{"acrs":{"essential":true}}}"#;
    for error in ["interaction_required", "consent_required"] {
        let world = World::new(quick(), move |_| {
            Answer::Refuse(AuthoritySays {
                claims: Some(claims.into()),
                ..refuse(400, error)
            })
        });
        let one = world.caller("one");
        let refused = world.get(&one).await.unwrap_err().refusal.unwrap();
        assert_eq!(refused.claims.as_deref(), Some(claims));
        assert_ne!(refused.fault, CallerFault::Token);
        world.get(&one).await.unwrap_err();
        assert_eq!(world.calls().len(), 2, "{error}");
        // Consent was given meanwhile.
        world.answer(|_| Answer::Token(secs(3600)));
        belongs(&world.get(&one).await.unwrap(), &one);
    }
}

/// Not remembered, and yet not asked for as often as one caller likes: an authority that throttles does so for all.
#[tokio::test(start_paused = true)]
async fn one_caller_who_asks_again_and_again_does_not_hammer_the_authority() {
    let setup = Setup {
        takes: Duration::from_millis(10),
        ..Setup::default()
    };
    let world = World::new(setup, |_| {
        Answer::Refuse(refuse(400, "interaction_required"))
    });
    let one = world.caller("one");
    let began = Instant::now();
    while began.elapsed() < secs(10) {
        let refused = world.get(&one).await.unwrap_err().refusal.unwrap();
        assert_eq!(refused.fault, CallerFault::Interaction);
    }
    // Two a second; and one for each time that what is known of the caller is swept.
    assert!(world.calls().len() <= 32, "{}", world.calls().len());
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_for_one_exchange_share_its_refusal() {
    let world = Arc::new(World::new(Setup::default(), |_| {
        Answer::Refuse(refuse(400, "interaction_required"))
    }));
    let one = world.caller("one");
    let mut calls = JoinSet::new();
    for _ in 0..100 {
        let (world, one) = (Arc::clone(&world), Arc::clone(&one));
        calls.spawn(async move { world.get(&one).await.unwrap_err().refusal.unwrap() });
    }
    assert!(
        calls
            .join_all()
            .await
            .iter()
            .all(|r| r.fault == CallerFault::Interaction)
    );
    assert_eq!(world.calls().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_operators_and_the_authoritys_failures_are_503s_and_are_remembered_briefly() {
    for (status, error, least, most) in
        [(401, "invalid_client", 1, 1), (500, "server_error", 8, 26)]
    {
        let world = World::new(quick(), move |_| Answer::Refuse(refuse(status, error)));
        let one = world.caller("one");
        let unavailable = world.get(&one).await.unwrap_err();
        assert!(
            unavailable.refusal.is_none(),
            "{error}: no caller can mend it"
        );
        let again = calls_within(&world, &one, 12).await;
        assert!((least..=most).contains(&again), "{error}: {again}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_pods_own_subject_token_nothing_is_asked_and_the_reason_is_named() {
    let world = World::new(
        Setup {
            pod: false,
            ..quick()
        },
        |_| Answer::Token(secs(3600)),
    );
    let one = world.caller("one");
    assert_eq!(
        &*world.get(&one).await.unwrap_err().reason,
        "subject_token_missing"
    );
    assert!(world.calls().is_empty());
    let condition = world.condition();
    assert!(!condition.ready);
    assert_eq!(
        condition.reason.unwrap(),
        "waiting for a usable subject token `pod` (subject_token_missing)"
    );
    world.pod.send_replace(Some(subject("pod-1")));
    sleep(secs(1)).await;
    belongs(&world.get(&one).await.unwrap(), &one);
    assert!(world.condition().ready);
    assert_eq!(world.calls()[0].pod, Some(jwt(FAR, "pod-1")));
}

#[tokio::test(start_paused = true)]
async fn the_pods_assertion_is_taken_anew_for_each_exchange_and_once_more_when_it_was_stale() {
    let world = World::good();
    world.get(&world.caller("one")).await.unwrap();
    world.pod.send_replace(Some(subject("pod-2")));
    world.get(&world.caller("two")).await.unwrap();
    assert_eq!(world.calls()[1].pod, Some(jwt(FAR, "pod-2")));
    // AADSTS700024: rotated while the request was under way.
    let pod = world.pod.clone();
    world.answer(move |call| {
        if call.pod == Some(jwt(FAR, "pod-2")) {
            pod.send_replace(Some(subject("pod-3")));
            return Answer::Refuse(AuthoritySays {
                aadsts: Some(700_024),
                ..refuse(401, "invalid_client")
            });
        }
        Answer::Token(secs(3600))
    });
    let three = world.caller("three");
    belongs(&world.get(&three).await.unwrap(), &three);
    assert_eq!(world.calls().len(), 4);
    assert_eq!(world.calls()[3].pod, Some(jwt(FAR, "pod-3")));
}

/// A wrong audience or client gets every caller refused as if their tokens were bad: they cannot mend it, so the operator is told.
#[tokio::test(start_paused = true)]
async fn a_credential_that_gets_everybody_refused_is_named() {
    for (status, error) in [(400, "invalid_request"), (400, "invalid_grant")] {
        let world = World::new(quick(), move |_| Answer::Refuse(refuse(status, error)));
        for n in 0..9 {
            world.get(&world.caller(&n.to_string())).await.unwrap_err();
        }
        for n in 0..2 {
            assert_eq!(world.condition().warning, None, "{error}: {n}");
            let person = world.person(&n.to_string());
            let refused = world.get(&person).await.unwrap_err().refusal.unwrap();
            assert_eq!(refused.fault, CallerFault::Token);
        }
        let condition = world.condition();
        assert!(condition.ready);
        let reason = condition.warning.unwrap().reason;
        assert!(
            reason.contains(error) && reason.contains("audience"),
            "{reason}"
        );
        world.answer(|_| Answer::Token(secs(3600)));
        world.get(&world.person("served")).await.unwrap();
        assert_eq!(world.condition().warning, None);
    }
    // Here the words leave no doubt.
    let world = World::new(quick(), |_| Answer::Refuse(refuse(401, "invalid_client")));
    world.get(&world.caller("one")).await.unwrap_err();
    let condition = world.condition();
    assert!(condition.ready && condition.warning.unwrap().reason.contains("invalid_client"));
}

/// What is issued for a token that is about to end is dead when it comes. That is not the authority's doing, and must not count as such.
#[tokio::test(start_paused = true)]
async fn a_token_that_is_about_to_end_is_not_exchanged_and_harms_nobody_else() {
    let world = World::new(quick(), |_| Answer::Token(Duration::ZERO));
    for n in 0..6 {
        let person = caller_named(&n.to_string(), START + 1, "1", &world.clock);
        let refused = world.get(&person).await.unwrap_err();
        assert_eq!(&*refused.reason, "caller_token_expired");
    }
    assert!(world.calls().is_empty());
    world.answer(|_| Answer::Token(secs(3600)));
    world.get(&world.person("other")).await.unwrap();
}
