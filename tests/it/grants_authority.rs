//! The development authority's own judgement of the grants, asked without a sidecar in between: what it lets through would prove nothing.

use crate::lab::Lab;
use harness::{
    authority::{Certificates, Options, StsClient},
    client::{Answer, Client},
    issuer::ProjectedToken,
};
use serde_json::json;

const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const ID_JAG: &str = "urn:ietf:params:oauth:token-type:id-jag";

async fn post(lab: &Lab, path: &str, form: &[(&str, &str)]) -> Answer {
    let mut body = form_urlencoded::Serializer::new(String::new());
    body.extend_pairs(form);
    let client = Client::new(lab.authority.address())
        .tls(&lab.ca)
        .unwrap()
        .host("localhost");
    client.post(path, body.finish()).await.unwrap()
}

fn error(answer: &Answer) -> (u16, String) {
    let error = answer.json()["error"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    (answer.status.as_u16(), error)
}

#[tokio::test]
async fn it_obeys_may_act() {
    let lab = Lab::new().await;
    let issuer = lab.authority.issuer();
    let actor = lab.authority.projected_token().unwrap();
    for (may_act, status) in [
        (json!({ "sub": ProjectedToken::default().subject() }), 200),
        (json!({ "sub": "somebody" }), 400),
        (
            json!({ "sub": ProjectedToken::default().subject(), "iss": "https://other" }),
            400,
        ),
    ] {
        let mut claims = issuer.claims(&ProjectedToken::default());
        claims["may_act"] = may_act;
        let subject = issuer.sign(&claims).unwrap();
        let answer = post(
            &lab,
            "/sts/token",
            &[
                ("grant_type", TOKEN_EXCHANGE),
                ("subject_token", &subject),
                ("subject_token_type", JWT),
                ("actor_token", &actor),
                ("actor_token_type", JWT),
            ],
        )
        .await;
        assert_eq!(answer.status, status, "{}", answer.text());
    }
}

#[tokio::test]
async fn client_credentials_need_a_client() {
    let lab = Lab::new().await;
    let form = [("grant_type", "client_credentials"), ("client_id", "me")];
    let answer = post(&lab, "/sts/token", &form).await;
    assert_eq!(error(&answer), (400, "unauthorized_client".into()));
    let answer = post(&lab, "/sts/token", &[("grant_type", "password")]).await;
    assert_eq!(error(&answer), (400, "unsupported_grant_type".into()));
}

#[tokio::test]
async fn mutual_tls_needs_the_certificate() {
    let lab = Lab::with(Options {
        certificates: Certificates::Asked,
        ..Options::default()
    })
    .await;
    lab.authority.configure(|o| {
        o.sts_client = StsClient::Tls {
            id: "me".into(),
            certificates: vec![lab.ca.client_leaf("me").unwrap().thumbprint()],
        };
    });
    let form = [("grant_type", "client_credentials"), ("client_id", "me")];
    let answer = post(&lab, "/sts/token", &form).await;
    assert_eq!(error(&answer), (401, "invalid_client".into()));
    assert!(
        answer.text().contains("no client certificate"),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn an_id_jag_is_good_once_for_its_client_and_nothing_else_is_one() {
    let client = |id: &str, secret: &str| StsClient::Post {
        id: id.into(),
        secret: secret.into(),
    };
    let lab = Lab::with(Options {
        resource_client: client("at-as", "s"),
        ..Options::default()
    })
    .await;
    let subject = lab.authority.projected_token().unwrap();
    let audience = lab.authority.resource_issuer();
    let exchange = async |requested: &str, audience: &str| {
        let form = [
            ("grant_type", TOKEN_EXCHANGE),
            ("subject_token", subject.as_str()),
            ("subject_token_type", JWT),
            ("requested_token_type", requested),
            ("audience", audience),
        ];
        post(&lab, "/sts/token", &form).await
    };
    let redeem = async |assertion: &str, id: &str| {
        let form = [
            ("grant_type", JWT_BEARER),
            ("assertion", assertion),
            ("client_id", id),
            ("client_secret", "s"),
        ];
        post(&lab, "/resource/token", &form).await
    };
    let refused = (400, "invalid_grant".to_owned());
    let issued = exchange(ID_JAG, &audience).await;
    assert_eq!(issued.json()["token_type"], "N_A", "{}", issued.text());
    assert_eq!(issued.json()["issued_token_type"], ID_JAG);
    let assertion = issued.json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(redeem(&assertion, "at-as").await.status, 200);
    assert_eq!(
        error(&redeem(&assertion, "at-as").await),
        refused,
        "used before"
    );
    // An access token of the same issuer has another typ; the subject token has another issuer.
    let access = exchange(JWT, "api://backend").await.json()["access_token"]
        .as_str()
        .unwrap()
        .to_owned();
    for other in [&access, &subject] {
        let answer = redeem(other, "at-as").await;
        assert_eq!(error(&answer), refused);
        assert!(answer.text().contains("typ"), "{}", answer.text());
    }
    // Made for the client that was registered when it was issued.
    let again = exchange(ID_JAG, &audience).await.json()["access_token"]
        .as_str()
        .unwrap()
        .to_owned();
    lab.authority
        .configure(|o| o.resource_client = client("another", "s"));
    assert_eq!(error(&redeem(&again, "another").await), refused);
    let elsewhere = exchange(ID_JAG, "https://other.example").await;
    assert_eq!(error(&elsewhere), (400, "invalid_target".into()));
}
