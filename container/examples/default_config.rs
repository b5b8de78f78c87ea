//! Prints the default `config.json` for a command: `default_config COMMAND [ARG]…`.

#![expect(clippy::print_stdout, reason = "an example is a program")]

fn main() -> Result<(), serde_json::Error> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut spec = container::spec::default_spec();
    if let (Some(process), false) = (spec.process_mut().as_mut(), args.is_empty()) {
        process.set_args(Some(args));
    }
    println!("{}", serde_json::to_string_pretty(&spec)?);
    Ok(())
}
