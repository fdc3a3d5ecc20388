//! The programs, run by an interpreter, against the tables that they were made from.
use super::*;
use crate::sys::linux::sandbox::{Profile, calls};
use proptest::prelude::*;

/// What the table says, without a program.
fn plain(table: &Table, machine: u32, number: u32, arguments: &[u64; 6]) -> Verdict {
    if machine != table.machine {
        return Verdict::Kill;
    }
    let Some(rule) = table.rules.iter().find(|r| r.number == number) else {
        let (first, last, error) = table.unknown;
        return if (first..=last).contains(&number) { Verdict::Refuse(error) } else { table.others };
    };
    let holds = |t: &Test| t.values.contains(&(arguments[usize::from(t.argument)] as u32 & t.mask));
    if rule.ways.iter().any(|way| way.iter().all(holds)) { Verdict::Allow } else { rule.otherwise }
}

/// The kernel's machine (Documentation/networking/filter.rst), as far as these programs use it. Returns the verdict and the
/// instructions that it took.
fn run(program: &[Instruction], machine: u32, number: u32, arguments: &[u64; 6]) -> (Verdict, usize) {
    let mut data = Vec::new();
    data.extend(number.to_ne_bytes());
    data.extend(machine.to_ne_bytes());
    data.extend(0x7fff_0000_1234u64.to_ne_bytes());
    data.extend(arguments.iter().flat_map(|a| a.to_ne_bytes()));
    let (mut a, mut at) = (0u32, 0usize);
    for step in 1.. {
        let i = program[at];
        at += 1;
        match i.code {
            LOAD => {
                assert!(i.k.is_multiple_of(4), "the kernel refuses an unaligned load");
                let k = i.k as usize;
                a = u32::from_ne_bytes(data[k..k + 4].try_into().unwrap());
            }
            AND => a &= i.k,
            JUMP => at += i.k as usize,
            JUMP_IF_EQUAL => at += usize::from(if a == i.k { i.jt } else { i.jf }),
            JUMP_IF_NOT_LESS => at += usize::from(if a >= i.k { i.jt } else { i.jf }),
            RETURN => {
                let verdict = match (i.k & 0xffff_0000, i.k & 0xffff) {
                    (RETURN_ALLOW, 0) => Verdict::Allow,
                    (RETURN_KILL, 0) => Verdict::Kill,
                    (RETURN_ERROR, e) => Verdict::Refuse(e as u16),
                    other => panic!("{other:x?}"),
                };
                return (verdict, step);
            }
            code => panic!("the interpreter knows no {code:x}"),
        }
    }
    unreachable!()
}

/// The real tables, every number, and arguments at and beside each value that a rule compares.
#[test]
fn the_real_programs_say_what_their_tables_say() {
    for profile in [Profile::Run, Profile::Guard, Profile::Uci] {
        let table = calls::table(profile, 4711);
        let program = assemble(&table).unwrap();
        let values: Vec<u64> = table
            .rules
            .iter()
            .flat_map(|r| r.ways.iter().flatten())
            .flat_map(|t| &t.values)
            .flat_map(|v| {
                let v = u64::from(*v);
                [v, v + 1, v | 0x800, v | 1 << 40, v ^ 4]
            })
            .collect();
        let mut arguments = [0u64; 6];
        for number in
            (0..5200).chain([0x3fff_ffff, 0x4000_0000, 0x4000_0001, 0x4000_003b, u32::MAX - 1, u32::MAX])
        {
            let rounds = if table.rules.iter().any(|r| r.number == number) { values.len() } else { 2 };
            for round in 0..rounds {
                for (place, argument) in arguments.iter_mut().enumerate() {
                    *argument = values[(round + place * 7) % values.len()];
                }
                let wanted = plain(&table, table.machine, number, &arguments);
                assert_eq!(
                    run(&program, table.machine, number, &arguments).0,
                    wanted,
                    "{number} {arguments:x?}"
                );
            }
            assert_eq!(run(&program, table.machine ^ 1, number, &arguments).0, Verdict::Kill);
        }
    }
}

#[test]
fn a_call_without_conditions_takes_few_steps() {
    let table = calls::table(Profile::Run, 1);
    let program = assemble(&table).unwrap();
    let most = table.rules.iter().map(|r| run(&program, table.machine, r.number, &[0; 6]).1).max().unwrap();
    assert!(most < 40 && program.len() < 400, "{most} steps, {} instructions", program.len());
    let read = u32::try_from(libc::SYS_read).unwrap();
    assert!(run(&program, table.machine, read, &[0; 6]).1 <= 14);
}

fn verdicts() -> impl Strategy<Value = Verdict> {
    prop_oneof![Just(Verdict::Allow), Just(Verdict::Kill), (1u16..200).prop_map(Verdict::Refuse)]
}

fn tests() -> impl Strategy<Value = Test> {
    let mask = prop_oneof![Just(u32::MAX), Just(0xf), Just(4)];
    (0u8..6, mask, prop::collection::vec(0u32..6, 0..4)).prop_map(|(argument, mask, values)| Test {
        argument,
        mask,
        values,
    })
}

fn tables() -> impl Strategy<Value = Table> {
    let ways = prop::collection::vec(prop::collection::vec(tests(), 0..4), 0..4);
    let rules = prop::collection::btree_map(0u32..600, (ways, verdicts()), 0..200);
    (rules, 0u32..700, 0u32..100, verdicts()).prop_map(|(rules, first, length, others)| Table {
        machine: 7,
        rules: rules
            .into_iter()
            .map(|(number, (ways, otherwise))| Rule { number, ways, otherwise })
            .collect(),
        unknown: (first, first + length, 38),
        others,
    })
}

proptest! {
    #[test]
    fn any_program_says_what_its_table_says(
        table in tables(),
        calls in prop::collection::vec((0u32..900, prop::array::uniform6(0u64..6)), 200),
    ) {
        let Ok(program) = assemble(&table) else { return Ok(()) };
        for (number, arguments) in calls {
            prop_assert_eq!(run(&program, 7, number, &arguments).0, plain(&table, 7, number, &arguments));
        }
    }
}
