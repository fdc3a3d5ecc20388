//! Seccomp filters: from a table of rules to the classic BPF that the kernel runs (linux/filter.h, linux/seccomp.h).
//!
//! The numbers of system calls are cut into segments of equal behaviour, which the program finds by binary search: seven
//! jumps for a hundred calls. Kernels from 5.11 on remember which numbers are always allowed and do not run it for them.

/// One instruction (`struct sock_filter`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What it does.
    pub code: u16,
    /// Instructions to skip if the comparison holds.
    pub jt: u8,
    /// Instructions to skip if it does not.
    pub jf: u8,
    /// Its operand.
    pub k: u32,
}

/// What becomes of a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is made.
    Allow,
    /// It fails with this error number.
    Refuse(u16),
    /// The process is killed by SIGSYS.
    Kill,
}

/// A test of an argument: its low 32 bits under the mask are one of the values. The kernel looks at no more of an `int`,
/// and all flags that matter here lie in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test {
    /// Which argument, from 0 to 5.
    pub argument: u8,
    /// The bits that are compared.
    pub mask: u32,
    /// What they may be.
    pub values: Vec<u32>,
}

/// The rule of one system call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its number.
    pub number: u32,
    /// The ways in which it is allowed: all tests of one of them hold.
    pub ways: Vec<Vec<Test>>,
    /// What it is otherwise.
    pub otherwise: Verdict,
}

impl Rule {
    /// Allowed, whatever its arguments.
    pub fn always(number: u32) -> Rule {
        Rule { number, ways: vec![Vec::new()], otherwise: Verdict::Kill }
    }

    /// Never made.
    pub fn never(number: u32, verdict: Verdict) -> Rule {
        Rule { number, ways: Vec::new(), otherwise: verdict }
    }
}

/// A whole filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The architecture whose numbers these are (`AUDIT_ARCH_*`, linux/audit.h); calls by another one are killed.
    pub machine: u32,
    /// Sorted by number, each number once.
    pub rules: Vec<Rule>,
    /// The first and last of the numbers that fail with this error, unless a rule names them.
    pub unknown: (u32, u32, u16),
    /// What becomes of all other calls.
    pub others: Verdict,
}

/// More instructions than the kernel takes (`BPF_MAXINSNS`), or a rule too long for its jumps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

const MAX_INSTRUCTIONS: usize = 4096;

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_NOT_LESS: u16 = 0x35;
const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const MACHINE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// `SECCOMP_RET_*`.
const RETURN_KILL: u32 = 0x8000_0000;
const RETURN_ERROR: u32 = 0x0005_0000;
const RETURN_ALLOW: u32 = 0x7fff_0000;

/// The program of a table.
///
/// # Errors
/// [`TooLong`]: a fault of the table, not of the machine.
pub fn assemble(table: &Table) -> Result<Vec<Instruction>, TooLong> {
    let mut program =
        vec![load(MACHINE), jump_if(JUMP_IF_EQUAL, table.machine, 1, 0), verdict(Verdict::Kill)];
    program.push(load(NUMBER));
    program.extend(search(&segments(table)?));
    if program.len() > MAX_INSTRUCTIONS { Err(TooLong) } else { Ok(program) }
}

/// Where a segment begins, and the instructions of all numbers up to the next one.
type Segment = (u32, Vec<Instruction>);

fn segments(table: &Table) -> Result<Vec<Segment>, TooLong> {
    let mut segments: Vec<Segment> = Vec::new();
    let mut next = 0;
    for rule in &table.rules {
        gap(table, next, rule.number, &mut segments);
        begin(&mut segments, rule.number, body(rule)?);
        next = rule.number.saturating_add(1);
    }
    gap(table, next, u32::MAX, &mut segments);
    Ok(segments)
}

/// The numbers of `from..to`, which no rule names.
fn gap(table: &Table, from: u32, to: u32, segments: &mut Vec<Segment>) {
    let (first, last, error) = table.unknown;
    let unknown = (first.max(from), last.saturating_add(1).min(to));
    if from < to && from < first {
        begin(segments, from, vec![verdict(table.others)]);
    }
    if unknown.0 < unknown.1 {
        begin(segments, unknown.0, vec![verdict(Verdict::Refuse(error))]);
    }
    let rest = from.max(last.saturating_add(1));
    if rest < to {
        begin(segments, rest, vec![verdict(table.others)]);
    }
}

fn begin(segments: &mut Vec<Segment>, start: u32, body: Vec<Instruction>) {
    if segments.last().is_none_or(|(_, last)| *last != body) {
        segments.push((start, body));
    }
}

fn search(segments: &[Segment]) -> Vec<Instruction> {
    let (left, right) = segments.split_at(segments.len() / 2);
    let (Some((start, body)), false) = (right.first(), left.is_empty()) else {
        return right.first().map(|(_, body)| body.clone()).unwrap_or_default();
    };
    let (left, right) = (search(left), if right.len() == 1 { body.clone() } else { search(right) });
    let mut code = match u8::try_from(left.len()) {
        Ok(length) => vec![jump_if(JUMP_IF_NOT_LESS, *start, length, 0)],
        Err(_) => vec![jump_if(JUMP_IF_NOT_LESS, *start, 0, 1), jump(left.len())],
    };
    code.extend(left);
    code.extend(right);
    code
}

fn body(rule: &Rule) -> Result<Vec<Instruction>, TooLong> {
    let mut code = Vec::new();
    for way in &rule.ways {
        code.extend(tests(way)?);
        if way.is_empty() {
            return Ok(code);
        }
    }
    code.push(verdict(rule.otherwise));
    Ok(code)
}

/// Allows if all tests hold, and goes on behind its last instruction otherwise.
fn tests(way: &[Test]) -> Result<Vec<Instruction>, TooLong> {
    let mut code = vec![verdict(Verdict::Allow)];
    for test in way.iter().rev() {
        let mut block =
            vec![load(argument(test.argument)), Instruction { code: AND, jt: 0, jf: 0, k: test.mask }];
        let miss = u8::try_from(code.len()).map_err(|_| TooLong)?;
        for (index, value) in test.values.iter().enumerate() {
            let left = u8::try_from(test.values.len() - 1 - index).map_err(|_| TooLong)?;
            block.push(jump_if(JUMP_IF_EQUAL, *value, left, if left == 0 { miss } else { 0 }));
        }
        if test.values.is_empty() {
            block.push(jump(code.len()));
        }
        block.extend(code);
        code = block;
    }
    Ok(code)
}

fn argument(index: u8) -> u32 {
    let low = if cfg!(target_endian = "big") { 4 } else { 0 };
    ARGUMENTS + 8 * u32::from(index) + low
}

fn load(offset: u32) -> Instruction {
    Instruction { code: LOAD, jt: 0, jf: 0, k: offset }
}

fn jump_if(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

fn jump(length: usize) -> Instruction {
    Instruction { code: JUMP, jt: 0, jf: 0, k: u32::try_from(length).unwrap_or(u32::MAX) }
}

fn verdict(verdict: Verdict) -> Instruction {
    let k = match verdict {
        Verdict::Allow => RETURN_ALLOW,
        Verdict::Refuse(error) => RETURN_ERROR | u32::from(error),
        Verdict::Kill => RETURN_KILL,
    };
    Instruction { code: RETURN, jt: 0, jf: 0, k }
}

#[cfg(test)]
mod tests;
