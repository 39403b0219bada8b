//! The kernel accepts every program of the object, or the one that takes its place.

use std::time::{Duration, Instant};

use aya::programs::{Program, ProgramError, ProgramInfo};
use proxy_agent::maps::{MapSizes, SocketScope, object};

const SIZES: MapSizes = MapSizes {
    frontends: 64,
    backends: 64,
    slots: 64,
    flows: 1024,
    node_addresses: 16,
};

/// So many instructions may the verifier walk through for one program. Its own limit is a
/// million, since Linux 5.2; what it walks is what loading costs at every start of the agent.
const LIMIT: u32 = 100_000;
/// Kernels after 6.1 walk through more of some programs.
const LIMIT_OF_LATER: u32 = 150_000;

#[test]
fn every_program_passes_the_verifier() {
    let mut object = object(SIZES, SocketScope::default(), None).expect("the object loads");
    let limit = if kernel_release().starts_with("6.1.") {
        LIMIT
    } else {
        LIMIT_OF_LATER
    };
    let mut programs: Vec<_> = object.programs_mut().collect();
    programs.sort_by_key(|(name, _)| *name);
    let mut loaded = Vec::new();
    let mut refused = Vec::new();
    for (name, program) in programs {
        let began = Instant::now();
        match load(program) {
            Ok(info) => {
                report(name, &info, began.elapsed());
                let verified = info.verified_instruction_count().unwrap_or_default();
                assert!(verified < limit, "{name}: {verified} instructions walked");
                loaded.push(name.to_owned());
            }
            Err(error) => {
                println!("{name:<20} refused: {}", last_lines(&error));
                refused.push(name.to_owned());
            }
        }
    }
    println!("{} loaded, {} refused", loaded.len(), refused.len());
    // What a kernel before 6.1 cannot say at sockets, the second of a pair leaves unsaid.
    refused.retain(|name| !loaded.contains(&format!("{name}_eperm")));
    assert!(refused.is_empty(), "{refused:?}");
}

fn load(program: &mut Program) -> Result<ProgramInfo, ProgramError> {
    match program {
        Program::SchedClassifier(program) => program.load().and_then(|()| program.info()),
        Program::Xdp(program) => program.load().and_then(|()| program.info()),
        Program::CgroupSockAddr(program) => program.load().and_then(|()| program.info()),
        Program::CgroupSock(program) => program.load().and_then(|()| program.info()),
        _ => panic!("a program of a type that the test does not know"),
    }
}

fn report(name: &str, info: &ProgramInfo, took: Duration) {
    let verified = info.verified_instruction_count().unwrap_or_default();
    let size = info.size_translated().unwrap_or_default() / 8;
    println!("{name:<20} {size:>6} instructions, {verified:>7} verified in {took:.0?}");
}

/// The end of what the verifier says.
fn last_lines(error: &ProgramError) -> String {
    const SHOWN: usize = 8;
    let ProgramError::LoadError {
        io_error,
        verifier_log,
    } = error
    else {
        return error.to_string();
    };
    let log = verifier_log.to_string();
    let lines: Vec<_> = log.lines().collect();
    let last = &lines[lines.len().saturating_sub(SHOWN)..];
    format!("{io_error}\n{}", last.join("\n"))
}

fn kernel_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("procfs is there")
}
