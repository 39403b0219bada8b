//! Real programs: of several languages, which use sockets each in their own way.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use proxy_tests::lab::client::{self, Transport};
use proxy_tests::lab::{Family, Namespace, PodNetwork, mirror};

use super::{ON, mirrors, python};
use crate::world::cluster_ip;

/// What the program of a question prints.
fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {stderr}");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn nc(from: &Namespace, to: SocketAddr, options: &str) -> Result<String> {
    let line = format!("printf 'who\\n' | nc {options} {} {}", to.ip(), to.port());
    output(from.command("sh").args(["-c", &line]))
}

/// By the two of Python's ways that are used most: streams, and an event loop.
const PYTHON: &str = r#"
import asyncio, http.client

def page():
    connection = http.client.HTTPConnection(more[0], int(more[1]), timeout=3)
    connection.request("GET", "/")
    return connection.getresponse().read().decode().strip()

class Datagrams(asyncio.DatagramProtocol):
    def __init__(self): self.answer = asyncio.get_running_loop().create_future()
    def connection_made(self, transport): transport.sendto(b"who\n")
    def datagram_received(self, data, _): self.answer.set_result(data)
    def error_received(self, error): self.answer.set_exception(error)

async def ask():
    reader, writer = await asyncio.open_connection(address, port)
    writer.write(b"who\n")
    line = await reader.readline()
    peer = writer.get_extra_info("peername")[:2]
    writer.close()
    loop = asyncio.get_running_loop()
    _, protocol = await loop.create_datagram_endpoint(Datagrams, remote_addr=(address, port))
    datagram = await asyncio.wait_for(protocol.answer, 3)
    return line.decode().split()[0], datagram.decode().split()[0], peer == (address, port)

print(page(), *asyncio.run(ask()))
"#;

/// Java has sockets for IPv6 only, and sends by them to IPv4 as well.
const JAVA: &str = r#"
import java.io.*;
import java.net.*;
import java.nio.ByteBuffer;
import java.nio.channels.*;

public class Client {
    public static void main(String[] arguments) throws Exception {
        var to = new InetSocketAddress(arguments[0], Integer.parseInt(arguments[1]));
        byte[] question = "who\n".getBytes();
        try (var stream = new Socket()) {
            stream.connect(to, 3000);
            stream.setSoTimeout(3000);
            stream.getOutputStream().write(question);
            var reader = new BufferedReader(new InputStreamReader(stream.getInputStream()));
            tell(reader.readLine(), stream.getRemoteSocketAddress().equals(to));
        }
        try (var channel = SocketChannel.open(to)) {
            channel.write(ByteBuffer.wrap(question));
            var buffer = ByteBuffer.allocate(100);
            channel.read(buffer);
            tell(new String(buffer.array()), true);
        }
        try (var socket = new DatagramSocket()) {
            socket.setSoTimeout(3000);
            socket.send(new DatagramPacket(question, question.length, to));
            var answer = new DatagramPacket(new byte[100], 100);
            socket.receive(answer);
            tell(new String(answer.getData()), answer.getSocketAddress().equals(to));
        }
        try (var channel = DatagramChannel.open()) {
            channel.connect(to);
            channel.write(ByteBuffer.wrap(question));
            var buffer = ByteBuffer.allocate(100);
            channel.read(buffer);
            tell(new String(buffer.array()), true);
        }
    }

    static void tell(String answer, boolean isRight) {
        System.out.println(answer.split(" ")[0] + " " + isRight);
    }
}
"#;

/// Whether this machine can run Java's source.
fn has_java() -> bool {
    let output = Command::new("java").args(["--list-modules"]).output();
    output.is_ok_and(|it| String::from_utf8_lossy(&it.stdout).contains("jdk.compiler"))
}

#[test]
fn programs_of_the_system_reach_services() -> Result<()> {
    let (world, _servers) = mirrors(PodNetwork::Bridge, &ON, &[(2, 1)])?;
    world.scale("web", &[(2, 1)])?;
    world.scale("dns", &[(2, 2)])?;
    let source = world.cluster.directory.path().join("Client.java");
    std::fs::write(&source, JAVA)?;
    let has_java = has_java();
    if !has_java {
        println!(
            "not tried: java, which is not here with a compiler (Debian's \
             openjdk-17-jdk-headless)"
        );
    }
    for (who, from) in world.host_and_pod() {
        for family in Family::BOTH {
            let what = || format!("{who}, {family:?}");
            let web = SocketAddr::new(cluster_ip("web", family), 80);
            let dns = SocketAddr::new(cluster_ip("dns", family), 53);
            let to = mirror::cluster_ip(family);
            assert_eq!(client::http(from, web).with_context(what)?, "pod-2-1");
            for transport in [Transport::Udp, Transport::Tcp] {
                let answer = client::dns(from, dns, transport).with_context(what)?;
                assert_eq!(answer, "pod-2-2");
            }
            for options in ["-N -w 3", "-u -w 1"] {
                let answer = nc(from, to, options).with_context(what)?;
                assert!(answer.starts_with("pod-2-1 "), "nc {options}: {answer}");
            }
            let page = [&web.ip().to_string(), "80"];
            let told = python(from, PYTHON, to, &page.map(|it: &str| it)).with_context(what)?;
            assert_eq!(told, "pod-2-1 pod-2-1 pod-2-1 True", "{}", what());
            hey(from, web).with_context(what)?;
            if has_java {
                let mut java = from.command("java");
                java.args(["-Xshare:auto", "-XX:TieredStopAtLevel=1"]);
                java.arg(&source);
                java.args([to.ip().to_string(), to.port().to_string()]);
                let told = output(&mut java).with_context(what)?;
                assert_eq!(told, ["pod-2-1 true"; 4].join("\n"), "{}", what());
            }
        }
    }
    Ok(())
}

/// Go calls the kernel by itself, without the system's library.
fn hey(from: &Namespace, to: SocketAddr) -> Result<()> {
    const REQUESTS: &str = "200";
    let mut command = from.command("hey");
    command.args(["-n", REQUESTS, "-c", "4", "-t", "3", "-disable-keepalive"]);
    let told = output(command.arg(format!("http://{to}/")))?;
    ensure!(
        told.contains(&format!("[200]\t{REQUESTS} responses")),
        "hey: {told}"
    );
    Ok(())
}
