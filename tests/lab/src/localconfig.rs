//! `localconfig.xml`, from which a store's programs learn where its servers are and with what passwords.

use crate::host::Host;

/// The keys of a store. Absent ones have Zimbra's defaults.
pub(crate) fn of_store(store: &Host, ldap_password: &str, mysql_password: &str) -> String {
    let keys = [
        ("zimbra_home", "/opt/zimbra"),
        ("zimbra_server_hostname", &store.fqdn),
        ("zimbra_mailbox_groups", "100"),
        ("mailboxd_directory", "/opt/zimbra/mailboxd"),
        ("zimbra_admin_service_port", "7071"),
        ("zimbra_zmprov_default_soap_server", &store.fqdn),
        ("ssl_allow_untrusted_certs", "false"),
        ("zimbra_require_interprocess_security", "1"),
        ("ldap_url", "ldap://ldap1.lab.test:389"),
        ("ldap_master_url", "ldap://ldap1.lab.test:389"),
        ("ldap_host", "ldap1.lab.test"),
        ("ldap_port", "389"),
        ("ldap_starttls_supported", "1"),
        ("ldap_starttls_required", "true"),
        ("zimbra_ldap_userdn", "uid=zimbra,cn=admins,cn=zimbra"),
        ("zimbra_ldap_user", "zimbra"),
        ("zimbra_ldap_password", ldap_password),
        ("zimbra_mysql_user", "zimbra"),
        ("zimbra_mysql_password", mysql_password),
        ("mysql_bind_address", "127.0.0.1"),
        ("mysql_port", "7306"),
        ("mysql_socket", "/opt/zimbra/data/tmp/mysql/mysql.sock"),
    ];
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\n<localconfig>\n");
    for (key, value) in keys {
        text.push_str(&format!("  <key name=\"{key}\">\n    <value>{value}</value>\n  </key>\n"));
    }
    text.push_str("</localconfig>\n");
    text
}
