//! SOAP envelopes: what stands in the header, the one request in the body, answers and faults.

use crate::fault::Fault;
use crate::xml::Element;

const OPEN: &str = "<soap:Envelope xmlns:soap=\"http://www.w3.org/2003/05/soap-envelope\"><soap:Header>";

/// A request as it came in.
#[derive(Debug)]
pub struct Envelope {
    /// The token, if any.
    pub token: Option<String>,
    /// The zimbraId of the server the client pins the request to.
    pub target: Option<String>,
    /// How many servers passed the request on already.
    pub hops: u32,
    /// The request.
    pub body: Element,
}

impl Envelope {
    /// Reads an envelope with one request.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(xml: &str) -> Result<Self, String> {
        let mut envelope = Element::parse(xml)?;
        if envelope.name != "Envelope" {
            return Err(format!("{} is not an envelope", envelope.name));
        }
        let context = envelope.find("Header").and_then(|h| h.find("context"));
        let value = |name| context.and_then(|c| c.value(name)).map(str::trim).filter(|v| !v.is_empty());
        let token = value("authToken").map(String::from);
        let target = value("targetServer").map(String::from);
        let hops = value("hopcount").and_then(|v| v.parse().ok()).unwrap_or(0);
        let at = envelope.children.iter().position(|c| c.name == "Body").ok_or("no body")?;
        let mut requests = envelope.children.swap_remove(at).children;
        match requests.len() {
            1 => Ok(Self { token, target, hops, body: requests.remove(0) }),
            n => Err(format!("{n} requests in the body")),
        }
    }

    /// As XML, for another server.
    pub fn to_xml(&self) -> String {
        let mut context = Element::new("context").attr("xmlns", "urn:zimbra").child(Element::new("nosession"));
        if let Some(token) = &self.token {
            context = context.child(Element::new("authToken").text(token));
        }
        if let Some(target) = &self.target {
            context = context.child(Element::new("targetServer").text(target));
        }
        if self.hops > 0 {
            context = context.child(Element::new("hopcount").text(self.hops.to_string()));
        }
        wrap(&context.to_xml(), &self.body.to_xml())
    }
}

/// The envelope of an answer.
pub fn answer(body: &Element) -> String {
    wrap("<context xmlns=\"urn:zimbra\"/>", &body.to_xml())
}

/// The envelope of a fault.
pub fn fault(fault: &Fault) -> String {
    let error = Element::new("Error")
        .attr("xmlns", "urn:zimbra")
        .child(Element::new("Code").text(&fault.code))
        .child(Element::new("Trace").text("lab"))
        .children(fault.args.iter().map(|(n, t, v)| Element::new("a").attr("n", n).attr("t", t).text(v)));
    let side = if fault.receiver { "Receiver" } else { "Sender" };
    let body = format!(
        "<soap:Fault><soap:Code><soap:Value>soap:{side}</soap:Value></soap:Code><soap:Reason>{}</soap:Reason><soap:Detail>{}</soap:Detail></soap:Fault>",
        Element::new("soap:Text").text(&fault.text).to_xml(),
        error.to_xml()
    );
    wrap("<context xmlns=\"urn:zimbra\"/>", &body)
}

/// The code of the fault in an answer from another server, or nothing when it is no fault.
pub fn fault_code(xml: &str) -> Option<String> {
    let envelope = Element::parse(xml).ok()?;
    let fault = envelope.find("Body")?.find("Fault")?;
    Some(fault.find("Detail")?.find("Error")?.find("Code")?.text.clone())
}

fn wrap(header: &str, body: &str) -> String {
    format!("{OPEN}{header}</soap:Header><soap:Body>{body}</soap:Body></soap:Envelope>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_values_are_children_or_attributes() {
        for context in [
            "<context xmlns='urn:zimbra'><authToken>T</authToken><targetServer>S</targetServer></context>",
            "<context xmlns='urn:zimbra' authToken='T' targetServer='S'/>",
        ] {
            let xml = format!(
                "<s:Envelope xmlns:s='http://schemas.xmlsoap.org/soap/envelope/'><s:Header>{context}</s:Header><s:Body><FooRequest xmlns='urn:zimbraAdmin'/></s:Body></s:Envelope>"
            );
            let e = Envelope::parse(&xml).unwrap();
            assert_eq!((e.token.as_deref(), e.target.as_deref(), e.hops), (Some("T"), Some("S"), 0));
            assert_eq!(e.body.name, "FooRequest");
        }
    }

    #[test]
    fn an_envelope_survives_being_passed_on() {
        let e = Envelope { token: Some("a&b".into()), target: None, hops: 3, body: Element::admin("X") };
        let again = Envelope::parse(&e.to_xml()).unwrap();
        assert_eq!((again.token, again.hops, again.body), (e.token, 3, e.body));
    }

    #[test]
    fn faults_name_code_side_and_arguments() {
        let xml = fault(&Fault::maintenance(12));
        assert_eq!(fault_code(&xml).as_deref(), Some("mail.MAINTENANCE"));
        assert!(xml.contains("soap:Receiver") && xml.contains("<a n=\"mboxId\" t=\"IID\">12</a>"), "{xml}");
        assert!(super::fault(&Fault::wrong_host("h")).contains("soap:Sender"));
        assert_eq!(fault_code(&answer(&Element::admin("Y"))), None);
    }
}
