//! The subject token's file: absent at first, rotated as the kubelet does, spoilt.

use crate::lab::{Lab, assert_passes, assert_unavailable};
use harness::{
    authority::Options,
    issuer::ProjectedToken,
    process::Sidecar,
    volume::{Layout, TokenVolume},
    wait::within,
};
use std::time::Duration;

/// Far above the second that events take, and far below what several polls in a row would.
const BY_EVENTS: Duration = Duration::from_secs(5);

async fn rotations(sidecar: &Sidecar) -> f64 {
    sidecar
        .metrics()
        .await
        .unwrap()
        .value(
            "token_sidecar_subject_token_rotations_total",
            &[("subject_token", "pod")],
        )
        .unwrap_or(0.0)
}

/// Waits for one rotation more than `before`.
async fn rotated(sidecar: &Sidecar, before: f64) {
    sidecar
        .metric("the new token to be seen", |metrics| {
            metrics
                .value("token_sidecar_subject_token_rotations_total", &[])
                .is_some_and(|count| count > before)
        })
        .await
        .unwrap();
}

/// Waits until the file has been missed.
async fn counted_missing(sidecar: &Sidecar) {
    sidecar
        .metric("the missing file to be counted", |metrics| {
            metrics
                .value(
                    "token_sidecar_subject_token_errors_total",
                    &[("reason", "missing")],
                )
                .is_some_and(|count| count >= 1.0)
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn a_file_that_comes_later_is_waited_for() {
    for layout in [Layout::Flat, Layout::Nested] {
        let lab =
            Lab::without_token(Options::default(), TokenVolume::unmounted(layout).unwrap()).await;
        let sidecar = lab.sidecar().await;
        let answer = sidecar.pending("pod").await.unwrap();
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert_unavailable(&sidecar).await;
        assert!(
            lab.authority.requests().is_empty(),
            "there is nothing to exchange"
        );
        assert!(
            lab.upstream.requests().is_empty(),
            "nothing may leave without its credential"
        );

        lab.rotate();
        sidecar.ready().await.unwrap();
        assert_passes(&sidecar).await;
    }
}

/// Neither the watch nor the file can be opened for a while, nor anything else: it says so, and goes on by polling.
#[tokio::test]
async fn without_descriptors_for_a_watch_rotations_are_seen_by_polling() {
    let volume = TokenVolume::unmounted(Layout::Nested).unwrap();
    let lab = Lab::without_token(Options::default(), volume).await;
    let mut sidecar = lab.sidecar().await;
    sidecar.pending("pod").await.unwrap();
    let before = sidecar.process.limit_files(Some(0)).unwrap();
    lab.rotate();
    let said = sidecar
        .process
        .logged("cannot watch the mount")
        .await
        .unwrap();
    assert!(
        said.contains("WARN")
            && said.contains("rotations are seen by polling within 10 s")
            && said.contains("fs.inotify.max_user_instances"),
        "{said}"
    );
    assert!(sidecar.process.is_running(), "{}", sidecar.process.output());
    sidecar.process.limit_files(before).unwrap();
    sidecar.ready().await.unwrap();
    assert_passes(&sidecar).await;
    for _ in 0..2 {
        let before = rotations(&sidecar).await;
        lab.rotate();
        rotated(&sidecar, before).await;
    }
    let output = sidecar.process.output();
    assert!(!output.contains("watching the mount again"), "{output}");
    assert_eq!(output.matches("cannot watch the mount").count(), 1);
}

#[tokio::test]
async fn every_rotation_is_seen_in_both_layouts() {
    for layout in [Layout::Flat, Layout::Nested] {
        let lab = Lab::without_token(Options::default(), TokenVolume::new(layout).unwrap()).await;
        lab.rotate();
        let sidecar = lab.ready_sidecar().await;
        for number in 0..4 {
            let before = rotations(&sidecar).await;
            lab.rotate();
            let seen = rotated(&sidecar, before);
            within(
                BY_EVENTS,
                &format!("rotation {number} in the {layout:?} layout to be seen by events"),
                seen,
            )
            .await
            .unwrap();
        }
        assert_eq!(
            lab.authority.issued().len(),
            1,
            "a rotation alone is no reason to renew"
        );
    }
}

#[tokio::test]
async fn a_rotated_token_is_what_the_next_exchange_sends() {
    let lab = Lab::with(Options {
        refresh_in: Some(Duration::from_secs(1)),
        ..Options::default()
    })
    .await;
    let sidecar = lab.ready_sidecar().await;
    let newest = lab.rotate();
    lab.authority
        .requests()
        .find("an exchange with the new token", |request| {
            request.field("client_assertion") == Some(&newest)
        })
        .await
        .unwrap();
    assert_passes(&sidecar).await;
}

#[tokio::test]
async fn what_is_no_token_leaves_the_last_good_one_in_place() {
    let lab = Lab::with(Options {
        refresh_in: Some(Duration::from_secs(1)),
        ..Options::default()
    })
    .await;
    let good = std::fs::read_to_string(lab.volume.file()).unwrap();
    let sidecar = lab.ready_sidecar().await;
    let expired = lab
        .authority
        .issuer()
        .mint(&ProjectedToken {
            issued_ago: Duration::from_secs(7200),
            ..ProjectedToken::default()
        })
        .unwrap();
    let spoilt = [
        ("empty", String::new()),
        ("not_a_jwt", "garbage, not a token\n".to_owned()),
        ("expired", expired),
        ("too_large", "x".repeat(2_000_000)),
    ];
    for (reason, content) in spoilt {
        lab.volume.write(&content).unwrap();
        sidecar
            .metric(&format!("the error {reason} to be counted"), |metrics| {
                metrics.value(
                    "token_sidecar_subject_token_errors_total",
                    &[("subject_token", "pod"), ("reason", reason)],
                ) == Some(1.0)
            })
            .await
            .unwrap();
        // The last good token is still what is exchanged, more than once.
        let issued = lab.authority.issued().len();
        lab.authority.issued().wait_for(issued + 1).await.unwrap();
        assert_eq!(lab.last_assertion(), good, "after content that is {reason}");
        assert_passes(&sidecar).await;
    }
    lab.volume.remove().unwrap();
    counted_missing(&sidecar).await;
    assert_passes(&sidecar).await;
    let metrics = sidecar.metrics().await.unwrap();
    assert_eq!(
        metrics.value(
            "token_sidecar_subject_token_errors_total",
            &[("reason", "empty")]
        ),
        Some(1.0),
        "counted once per change"
    );

    let newest = lab.rotate();
    lab.authority
        .requests()
        .find("an exchange with the new token", |request| {
            request.field("client_assertion") == Some(&newest)
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn a_token_with_a_newline_at_its_end_is_trimmed() {
    let lab = Lab::without_token(
        Options::default(),
        TokenVolume::new(Layout::Nested).unwrap(),
    )
    .await;
    let token = lab.authority.projected_token().unwrap();
    lab.volume.write(format!("{token}\n")).unwrap();
    lab.ready_sidecar().await;
    assert_eq!(lab.last_assertion(), token);
}

#[tokio::test]
async fn a_volume_that_is_unmounted_and_mounted_again_is_watched_again() {
    let lab = Lab::new().await;
    let sidecar = lab.ready_sidecar().await;
    lab.volume.unmount().unwrap();
    counted_missing(&sidecar).await;
    let before = rotations(&sidecar).await;
    lab.rotate();
    rotated(&sidecar, before).await;
    assert_passes(&sidecar).await;
}
