//! Every request against every pair of findings.

use super::*;

const MINIMA: [IsolationKind; 2] = [IsolationKind::Emulated, IsolationKind::Hardware];
const WANTED: [Option<EngineKind>; 3] = [None, Some(EngineKind::Krun), Some(EngineKind::Qemu)];
const KRUN_CODES: [FindingCode; 6] = [
    FindingCode::Ok,
    FindingCode::NoDevice,
    FindingCode::NoPermission,
    FindingCode::DeviceBroken,
    FindingCode::KernelModeEmulated,
    FindingCode::EngineNotBuilt,
];
const QEMU_CODES: [FindingCode; 3] =
    [FindingCode::Ok, FindingCode::EngineMissing, FindingCode::EngineTooOld];

fn finding(engine: EngineKind, code: FindingCode) -> Finding {
    let isolation = match engine {
        EngineKind::Krun => IsolationKind::Hardware,
        EngineKind::Qemu => IsolationKind::Emulated,
    };
    let remedy = match code {
        FindingCode::Ok => String::new(),
        _ => format!("Repair {engine}."),
    };
    Finding { engine, isolation, code, detail: format!("{engine} is {code:?}."), remedy }
}

/// Calls `check` with every request and every pair of findings.
fn every_combination(mut check: impl FnMut(Request, FindingCode, FindingCode, &[Finding])) {
    for minimum in MINIMA {
        for engine in WANTED {
            for krun in KRUN_CODES {
                for qemu in QEMU_CODES {
                    let findings =
                        [finding(EngineKind::Krun, krun), finding(EngineKind::Qemu, qemu)];
                    check(Request { minimum, engine }, krun, qemu, &findings);
                }
            }
        }
    }
}

#[test]
fn a_choice_is_never_less_than_asked_for_and_exists_whenever_one_can() {
    let mut seen = 0;
    every_combination(|request, krun, qemu, findings| {
        seen += 1;
        let krun_will_do = krun == FindingCode::Ok && request.engine != Some(EngineKind::Qemu);
        let qemu_will_do = qemu == FindingCode::Ok
            && request.engine != Some(EngineKind::Krun)
            && request.minimum == IsolationKind::Emulated;
        let expected = match (krun_will_do, qemu_will_do) {
            (true, _) => {
                Some(Choice { engine: EngineKind::Krun, isolation: IsolationKind::Hardware })
            }
            (false, true) => {
                Some(Choice { engine: EngineKind::Qemu, isolation: IsolationKind::Emulated })
            }
            (false, false) => None,
        };
        assert_eq!(choose(request.minimum, request.engine, findings).ok(), expected);
    });
    assert_eq!(seen, 2 * 3 * 6 * 3);
}

/// The findings and the request after doing what one alternative of a remedy says: repair what it
/// says, set the options it names.
fn follow(
    alternative: &str,
    request: Request,
    krun: FindingCode,
    qemu: FindingCode,
) -> Result<Choice, Unavailable> {
    let repaired = |code, what| if alternative.contains(what) { FindingCode::Ok } else { code };
    let minimum = if alternative.contains("minimum: \"emulated\"") {
        IsolationKind::Emulated
    } else {
        request.minimum
    };
    let engine = if alternative.contains("engine: \"auto\"") { None } else { request.engine };
    let after = [
        finding(EngineKind::Krun, repaired(krun, "Repair krun.")),
        finding(EngineKind::Qemu, repaired(qemu, "Repair qemu.")),
    ];
    choose(minimum, engine, &after)
}

#[test]
fn following_any_alternative_of_the_remedy_leads_to_a_choice() {
    every_combination(|request, krun, qemu, findings| {
        if request.best(findings).is_some() {
            return;
        }
        for built in [true, false] {
            let remedy = request.remedy(findings, built);
            assert!(!remedy.is_empty());
            for alternative in remedy.split(" Or: ") {
                assert!(follow(alternative, request, krun, qemu).is_ok(), "{remedy}");
            }
            let sends_to_repair = remedy.contains("Repair krun.");
            assert!(built || !sends_to_repair, "nothing here would use it: {remedy}");
        }
    });
}

#[test]
fn the_remedy_of_a_choice_that_fails_is_the_one_for_what_is_built() {
    every_combination(|request, _, _, findings| {
        if let Err(unavailable) = choose(request.minimum, request.engine, findings) {
            assert_eq!(unavailable.remedy, request.remedy(findings, KRUN_BUILT));
        }
    });
}

#[test]
fn with_krun_built_the_remedy_names_the_repair_of_the_device() {
    every_combination(|request, krun, _, findings| {
        if krun == FindingCode::Ok || request.engine == Some(EngineKind::Qemu) {
            return;
        }
        assert!(request.remedy(findings, true).starts_with("Repair krun."));
    });
}

#[test]
fn the_message_says_what_each_engine_in_question_lacks() {
    every_combination(|request, krun, qemu, findings| {
        let Err(unavailable) = choose(request.minimum, request.engine, findings) else { return };
        let message = unavailable.message;
        if request.engine != Some(EngineKind::Qemu) {
            assert!(message.contains(&format!("krun is {krun:?}")), "{message}");
        }
        if request.engine != Some(EngineKind::Krun) {
            let said = match request.minimum {
                IsolationKind::Hardware => "emulated isolation only".to_owned(),
                IsolationKind::Emulated => format!("qemu is {qemu:?}"),
            };
            assert!(message.contains(&said), "{message}");
        }
    });
}

#[test]
fn no_findings_at_all_choose_nothing() {
    for minimum in MINIMA {
        for engine in WANTED {
            let unavailable = choose(minimum, engine, &[]).unwrap_err();
            assert!(unavailable.message.contains("nothing is known"), "{}", unavailable.message);
        }
    }
}
