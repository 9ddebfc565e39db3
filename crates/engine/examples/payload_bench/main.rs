//! Engines and devices without Linux: the payload guest on each engine that runs here, in one go.
//! `payload_bench [qemu] [krun]`
//!
//! Where the host emulates the guest's kernel mode, the guest itself is what krun's figures measure:
//! some hundred instructions a request at two million a second.

#![allow(clippy::print_stdout, reason = "a program for the terminal")]

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod measure;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use engine::probe::EngineKind;

    let named: Vec<String> = std::env::args().skip(1).collect();
    if let Some(other) = named.iter().find(|name| !["qemu", "krun"].contains(&name.as_str())) {
        return Err(format!("{other} is not an engine; usage: payload_bench [qemu] [krun]").into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut columns = Vec::new();
    for (name, kind) in [("qemu", EngineKind::Qemu), ("krun", EngineKind::Krun)] {
        if !named.is_empty() && !named.iter().any(|wanted| wanted == name) {
            continue;
        }
        match runtime.block_on(measure::measure(kind)) {
            Ok(figures) => columns.push((name, figures)),
            Err(error) => println!("{name}: not measured: {error}"),
        }
    }
    print!("{:<44}", "");
    columns.iter().for_each(|(name, _)| print!(" {name:>12}"));
    println!();
    let rows = columns.first().map_or(0, |(_, measure::Figures(rows))| rows.len());
    for row in 0..rows {
        let (name, _, unit) = &columns[0].1.0[row];
        print!("{name:<44}");
        columns.iter().for_each(|(_, measure::Figures(rows))| print!(" {:>12.1}", rows[row].1));
        println!(" {unit}");
    }
    Ok(())
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn main() {
    println!("The payload guest is for x86-64 Linux hosts.");
}
