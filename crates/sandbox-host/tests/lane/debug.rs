//! The debug socket: looks and execs, and reflection.

use futures::stream;
use protocol::ErrorCode;
use protocol::v1;
use protocol::v1::network_service_client::NetworkServiceClient;
use protocol::v1::process_service_client::ProcessServiceClient;
use protocol::v1::sandbox_service_client::SandboxServiceClient;
use sandbox_host::debug::DebugSocket;
use tokio::net::UnixStream;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1alpha;

use crate::client::{Helper, assert_code, channel, collect, command, detail, first, soon};
use crate::engine::FakeEngine;
use crate::guest::Script;

async fn helper_with_debug_socket() -> (Helper, tonic::transport::Channel, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("debug");
    let socket = DebugSocket::bind(&path).unwrap();
    let engine = FakeEngine::new(Script::default().player());
    let helper = Helper::with_engine(engine, Some(socket)).await;
    let debug = channel(UnixStream::connect(&path).await.unwrap()).await;
    (helper, debug, folder)
}

#[tokio::test]
async fn it_looks_and_execs_and_neither_boots_nor_closes() {
    let (mut helper, debug, _folder) = helper_with_debug_socket().await;
    let mut sandbox = SandboxServiceClient::new(debug.clone());
    let request = helper.files.request();
    let boot = detail(soon(sandbox.boot(request.clone())).await);
    assert_code(&boot, ErrorCode::NotSupported);
    let close = detail(soon(sandbox.shutdown(v1::ShutdownRequest { deadline_ms: 0 })).await);
    assert_code(&close, ErrorCode::NotSupported);
    soon(helper.sandbox.boot(request)).await.unwrap();

    let probe = soon(sandbox.probe(v1::ProbeRequest {})).await.unwrap().into_inner();
    assert_eq!(probe.engines.len(), 1);
    assert_eq!(probe.host_version, env!("CARGO_PKG_VERSION"));
    let status = soon(sandbox.get_status(v1::GetStatusRequest {})).await.unwrap().into_inner();
    assert_eq!(status.state(), v1::State::Running);
    soon(sandbox.watch(v1::WatchRequest {})).await.unwrap();
    let mut network = NetworkServiceClient::new(debug.clone());
    let request = v1::SetNetworkPolicyRequest::default();
    let refused = soon(network.set_network_policy(request)).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unimplemented);
    let mut process = ProcessServiceClient::new(debug);
    let run = process.run(stream::iter([first(command("echo", &["debug"]))]));
    let ran = collect(soon(run).await.unwrap().into_inner()).await.unwrap();
    assert_eq!(ran.stdout, b"debug\n");
}

#[tokio::test]
async fn debug_client_that_leaves_changes_nothing_and_the_socket_goes_with_the_helper() {
    let (mut helper, debug, folder) = helper_with_debug_socket().await;
    soon(helper.sandbox.boot(helper.files.request())).await.unwrap();
    drop(debug);
    let again = UnixStream::connect(folder.path().join("debug")).await.unwrap();
    let mut sandbox = SandboxServiceClient::new(channel(again).await);
    soon(sandbox.get_status(v1::GetStatusRequest {})).await.unwrap();
    let Helper { sandbox, process, filesystem, network, task, .. } = helper;
    drop((sandbox, process, filesystem, network));
    soon(task).await.unwrap().unwrap();
    crate::client::until("the socket is removed", || !folder.path().join("debug").exists()).await;
}

#[tokio::test]
async fn reflection_lists_the_services_and_describes_their_messages() {
    let (_helper, debug, _folder) = helper_with_debug_socket().await;
    let ask = |message: MessageRequest| ServerReflectionRequest {
        host: String::new(),
        message_request: Some(message),
    };
    let symbol = "lanebox.v1.RunRequest".to_owned();
    let questions = [
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol(symbol)),
    ];
    let mut client = ServerReflectionClient::new(debug.clone());
    let call = client.server_reflection_info(stream::iter(questions));
    let mut answers = soon(call).await.unwrap().into_inner();
    let listed = soon(answers.message()).await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = listed else { panic!("{listed:?}") };
    let mut names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    names.sort();
    assert_eq!(
        names,
        ["lanebox.v1.FileService", "lanebox.v1.ProcessService", "lanebox.v1.SandboxService"]
    );
    let described = soon(answers.message()).await.unwrap().unwrap().message_response.unwrap();
    assert!(matches!(described, MessageResponse::FileDescriptorResponse(_)), "{described:?}");

    let mut old = v1alpha::server_reflection_client::ServerReflectionClient::new(debug);
    let question = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
    };
    let call = old.server_reflection_info(stream::iter([question]));
    assert!(soon(soon(call).await.unwrap().into_inner().message()).await.unwrap().is_some());
}
