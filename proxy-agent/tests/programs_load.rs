//! The kernel accepts every program of the object.

use aya::programs::Program;
use proxy_agent::maps::{MapSizes, ProgramName, SocketScope, load};

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
        let info = loaded
            .program(name)
            .and_then(|program| {
                program
                    .info()
                    .map_err(|source| proxy_agent::maps::MapError::Program {
                        name: name.as_str(),
                        source,
                    })
            })
            .expect("a loaded program has an information record");
        let verified = info.verified_instruction_count().unwrap_or_default();
        let size = info.size_translated().unwrap_or_default() / 8;
        println!(
            "{:<20} {size:>6} instructions, {verified:>7} verified",
            name.as_str(),
        );
        assert!(
            verified < 500_000,
            "{} is close to the limit",
            name.as_str()
        );
    }
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
