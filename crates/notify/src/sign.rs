//! Signatures by [Standard Webhooks](https://www.standardwebhooks.com): HMAC-SHA256 over the id, the time
//! of the attempt and the body, byte for byte as sent.

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ring::hmac;

/// Padding may be left out of a secret.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A signing key.
pub struct Key(hmac::Key);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Key {
    /// Reads a secret: `whsec_` and base64. None if it is none.
    pub fn from_secret(secret: &str) -> Option<Key> {
        let encoded = secret.trim();
        let bytes = BASE64.decode(encoded.strip_prefix("whsec_").unwrap_or(encoded)).ok()?;
        (!bytes.is_empty()).then(|| Key(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// The value of `webhook-signature`.
    pub fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(format!("{id}.{timestamp}.").as_bytes());
        context.update(body);
        format!("v1,{}", BASE64.encode(context.sign()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector of the Standard Webhooks libraries.
    #[test]
    fn the_vector_of_the_specification() {
        let key = Key::from_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a secret");
        let signature = key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn what_is_a_secret() {
        for (text, wanted) in [
            ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", true),
            ("whsec_YWJj\n", true),
            ("whsec_YWI", true),
            ("whsec_", false),
            ("not base64!", false),
        ] {
            assert_eq!(Key::from_secret(text).is_some(), wanted, "{text}");
        }
    }
}
