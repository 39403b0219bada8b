//! The kernel accepts every program of the object, or the one that takes its place.

use std::collections::BTreeMap;
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

/// How many instructions the verifier walks through for each program. Its own limit is a
/// million, since Linux 5.2; what it walks is what loading costs at every start of the agent.
const VERIFIED: &str = include_str!("verified.txt");
/// How many of them a program may have on Linux 6.1, whatever the table says: a hook's program,
/// and one of the stages, which that kernel walks more often and which are loaded beside it.
const LIMITS: [u32; 2] = [65_000, 200_000];

/// Stages that compare and exchange a word, which no kernel before Linux 5.12 can: 5.10 stands in
/// for 5.15, and has to refuse them.
const CLAIMS: [&str; 4] = ["claim_reply", "claim_client", "note_plain", "note_outgoing"];

#[test]
fn every_program_passes_the_verifier() {
    let mut object = object(SIZES, SocketScope::default(), 1, None).expect("the object loads");
    let budgets = budgets();
    let mut programs: Vec<_> = object.programs_mut().collect();
    programs.sort_by_key(|(name, _)| *name);
    let mut loaded = Vec::new();
    let mut refused = Vec::new();
    let mut dearer = Vec::new();
    for (name, program) in programs {
        let began = Instant::now();
        match load(program) {
            Ok(info) => {
                report(name, &info, began.elapsed());
                let verified = info.verified_instruction_count().unwrap_or_default();
                let budget = budgets.get(name).copied().unwrap_or_default();
                if verified > budget {
                    dearer.push(format!("{name}: {verified}, and not {budget} at most"));
                }
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
    if kernel_release().starts_with("5.10.") {
        let claims = |name: &String| CLAIMS.iter().any(|claim| name.starts_with(claim));
        let expected: Vec<_> = refused.iter().filter(|it| claims(it)).collect();
        println!("refused, since they claim records: {expected:?}");
        refused.retain(|name| !claims(name));
    }
    assert!(refused.is_empty(), "{refused:?}");
    assert!(dearer.is_empty(), "instructions walked: {dearer:#?}");
}

/// How many instructions each program may have walked on the running kernel: 5 % more than
/// the table says. (Linux 5.10 does not report it.)
fn budgets() -> BTreeMap<&'static str, u32> {
    let is_old = kernel_release().starts_with("6.1.");
    let lines = VERIFIED.lines().filter(|line| !line.starts_with('#'));
    let budgets = lines.map(|line| {
        let mut fields = line.split_whitespace();
        let mut next = || fields.next().expect("a program and two numbers");
        let name = next();
        let [old, later] = [(), ()].map(|()| next().parse::<u32>().expect("a number"));
        let budget = |walked| walked + walked / 20;
        let budget = if is_old {
            let is_hook = ["ingress_", "egress_", "xdp_"]
                .iter()
                .any(|it| name.starts_with(it));
            budget(old).min(LIMITS[usize::from(!is_hook)])
        } else {
            budget(later)
        };
        (name, budget)
    });
    budgets.collect()
}

fn load(program: &mut Program) -> Result<ProgramInfo, ProgramError> {
    match program {
        Program::SchedClassifier(program) => program.load().and_then(|()| program.info()),
        Program::Xdp(program) => program.load().and_then(|()| program.info()),
        Program::CgroupSockAddr(program) => program.load().and_then(|()| program.info()),
        Program::CgroupSock(program) => program.load().and_then(|()| program.info()),
        Program::SockOps(program) => program.load().and_then(|()| program.info()),
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
