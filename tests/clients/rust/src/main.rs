//! reqwest, blocking, with rustls and the system's roots. The contract is in tests/support/clients.py.

use std::error::Error;
use std::io::BufRead;

fn ask(client: &reqwest::blocking::Client, method: &str, url: &str) -> Result<(u16, String), Box<dyn Error>> {
    let request = match method {
        "POST" => client.post(url).body(std::fs::File::open(std::env::var("BODY")?)?),
        _ => client.get(url),
    };
    let response = request.send()?;
    Ok((response.status().as_u16(), response.text()?))
}

// What the library says, and what it says was behind it.
fn whole_text(error: &dyn Error) -> String {
    match error.source() {
        Some(cause) => format!("{}: {}", error, whole_text(cause)),
        None => error.to_string(),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let client = reqwest::blocking::Client::new();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        let mut answer = serde_json::json!({"step": words[0]});
        for url in &words[2..] {
            match ask(&client, words[1], url) {
                Ok((status, text)) => {
                    answer["status"] = status.into();
                    answer["text"] = text.into();
                }
                Err(error) => {
                    answer["status"] = serde_json::Value::Null;
                    answer["text"] = whole_text(error.as_ref()).into();
                }
            }
        }
        println!("{}", answer);
    }
    Ok(())
}
