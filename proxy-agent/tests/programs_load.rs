//! The kernel accepts every program of the object.

use std::time::{Duration, Instant};

use aya::programs::{Program, ProgramError, ProgramInfo};
use proxy_agent::maps::{MapSizes, ProgramName, SocketScope, load};
use proxy_ebpf::layout::Stage;

const SIZES: MapSizes = MapSizes {
    frontends: 64,
    backends: 64,
    slots: 64,
    flows: 1024,
    node_addresses: 16,
};

/// The verifier's own limit is a million instructions walked; what it walks is
/// what loading costs at every start of the agent.
#[test]
fn every_program_passes_the_verifier() {
    let mut loaded = load(SIZES, SocketScope::default(), None).expect("the object loads");
    for name in ProgramName::ALL {
        loaded.program(name).expect("it is in the object");
    }
    let mut programs: Vec<_> = loaded.programs.programs_mut().collect();
    programs.sort_by_key(|(name, _)| *name);
    let mut count = 0;
    for (name, program) in programs {
        let (info, took) = match program {
            Program::SchedClassifier(program) => {
                program.unload().expect("it was loaded");
                let began = Instant::now();
                program.load().expect("the kernel takes it again");
                (program.info(), began.elapsed())
            }
            Program::Xdp(program) => {
                let began = Instant::now();
                program.load().expect("the kernel takes it");
                (program.info(), began.elapsed())
            }
            _ => continue,
        };
        check(name, info, took);
        count += 1;
    }
    assert_eq!(count, ProgramName::ALL.len() + Stage::ALL.len() * 2 + 1);
}

fn check(name: &str, info: Result<ProgramInfo, ProgramError>, took: Duration) {
    let info = info.expect("a loaded program has an information record");
    let verified = info.verified_instruction_count().unwrap_or_default();
    let size = info.size_translated().unwrap_or_default() / 8;
    println!("{name:<20} {size:>6} instructions, {verified:>7} verified in {took:.0?}");
    assert!(verified < 500_000, "{name} is close to the limit");
}

/// Sockets' programs are loaded only where they are wanted; those that only older kernels
/// need are as good here.
#[test]
fn every_program_of_sockets_passes_the_verifier() {
    let mut loaded = load(SIZES, SocketScope::default(), None).expect("the object loads");
    let mut names = Vec::new();
    for (name, program) in loaded.programs.programs_mut() {
        match program {
            Program::CgroupSockAddr(program) => program.load(),
            Program::CgroupSock(program) => program.load(),
            _ => continue,
        }
        .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        names.push(name.to_owned());
    }
    // Eleven hooks, of which six can refuse in two ways.
    assert_eq!(names.len(), 17, "{names:?}");
}
