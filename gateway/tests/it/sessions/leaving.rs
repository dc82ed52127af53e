//! How sessions and the gateway end.

use gateway::socket::{CloseCode, SubProtocol};
use proto::v1::server_frame::Frame;
use proto::v1::{Closing, ServerFrame};

use super::client::message;
use super::owner::Owner;
use super::setup::{Deployment, chat};

over_each_sub_protocol! {
    a_session_that_ends_is_announced,
    a_gateway_that_leaves_says_so_and_what_it_was_given_stands_in_the_log,
}

async fn a_session_that_ends_is_announced(over: SubProtocol) {
    let deployment = Deployment::start(over).await;
    let mut owner = Owner::start(&deployment.log, deployment.epoch, 5).await;
    let (mut alice, bob) = (deployment.client(1).await, deployment.client(2).await);
    owner.mirrors(&[alice.session, bob.session]).await;
    alice.leave().await;
    owner.mirrors(&[bob.session]).await;
    deployment.stop().await;
}

async fn a_gateway_that_leaves_says_so_and_what_it_was_given_stands_in_the_log(over: SubProtocol) {
    let deployment = Deployment::start_with(over, |config, _| config.socket.drain_ms = 300).await;
    let mut owner = Owner::start(&deployment.log, deployment.epoch, 5).await;
    let ingest = deployment.ingest().await;
    let mut client = deployment.client(1).await;
    owner.mirrors(&[client.session]).await;
    deployment.shutdown.cancel();
    match client.next().await {
        Ok(ServerFrame { frame: Some(Frame::Closing(Closing { reconnect_after_ms })), .. }) => {
            assert!(reconnect_after_ms <= 300, "{reconnect_after_ms}");
        }
        other => panic!("{other:?}"),
    }
    // What is asked while it leaves is either in the log or was never accepted.
    client.ask(message(chat(1), 1, "last words")).await;
    let accepted = loop {
        match client.next().await {
            Ok(ServerFrame { frame: Some(Frame::Accepted(_)), .. }) => break true,
            Ok(_) => {}
            Err(code) => {
                assert_eq!(code, CloseCode::Draining.number());
                break false;
            }
        }
    };
    assert!(!accepted || ingest.last().await == 1);
    if accepted {
        assert_eq!(client.closed().await.1, CloseCode::Draining.number());
    }
    owner.until("the gateway to say that it leaves", |owner| owner.left).await;
    deployment.stop().await;
}
