//! Security.

use crate::row::Effect::WithoutEffect;
use crate::row::Update::{PerBroker, ReadOnly};
use crate::row::configs;
use crate::table::reasons::{JVM, PLUGINS, SECURITY};
use crate::valid::Valid::{Any, AtLeast, Between, OneOf, OneOfIgnoreCase};
use crate::value::{Boolean, Class, Double, Int, List, Long, Password, Short};

configs! {
    AUTHORIZER_CLASS_NAME "authorizer.class.name": String = "", Any, ReadOnly, WithoutEffect(SECURITY),
        "The class that decides who may do what; empty means everyone may do everything.";

    PRINCIPAL_BUILDER_CLASS "principal.builder.class": Class = "org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder",
        Any, PerBroker, WithoutEffect(PLUGINS),
        "The class that makes a principal of an authenticated connection.";

    DELEGATION_TOKEN_SECRET_KEY "delegation.token.secret.key": Option<Password>,
        Any, ReadOnly, WithoutEffect(SECURITY),
        "The secret that signs delegation tokens.";

    DELEGATION_TOKEN_MAX_LIFETIME_MS "delegation.token.max.lifetime.ms": Long = 604800000,
        AtLeast(1), ReadOnly, WithoutEffect(SECURITY),
        "How long a delegation token can be renewed.";

    DELEGATION_TOKEN_EXPIRY_TIME_MS "delegation.token.expiry.time.ms": Long = 86400000,
        AtLeast(1), ReadOnly, WithoutEffect(SECURITY),
        "How long a delegation token is valid without being renewed.";

    DELEGATION_TOKEN_EXPIRY_CHECK_INTERVAL_MS "delegation.token.expiry.check.interval.ms": Long = 3600000,
        AtLeast(1), ReadOnly, WithoutEffect(SECURITY),
        "How often expired delegation tokens are removed.";

    SASL_ENABLED_MECHANISMS "sasl.enabled.mechanisms": List = "GSSAPI",
        Any, PerBroker, WithoutEffect(SECURITY),
        "The SASL mechanisms offered.";

    SASL_MECHANISM_INTER_BROKER_PROTOCOL "sasl.mechanism.inter.broker.protocol": String = "GSSAPI",
        Any, PerBroker, WithoutEffect(SECURITY),
        "The SASL mechanism between brokers.";

    SASL_MECHANISM_CONTROLLER_PROTOCOL "sasl.mechanism.controller.protocol": String = "GSSAPI",
        Any, ReadOnly, WithoutEffect(SECURITY),
        "The SASL mechanism towards controllers.";

    SASL_JAAS_CONFIG "sasl.jaas.config": Option<Password>, Any, PerBroker, WithoutEffect(SECURITY),
        "Credentials and options of a SASL mechanism, in JAAS form.";

    SASL_SERVER_MAX_RECEIVE_SIZE "sasl.server.max.receive.size": Int = 524288,
        Any, ReadOnly, WithoutEffect(SECURITY),
        "The largest message accepted while a client authenticates.";

    SASL_SERVER_CALLBACK_HANDLER_CLASS "sasl.server.callback.handler.class": Option<Class>,
        Any, ReadOnly, WithoutEffect(PLUGINS),
        "A class that checks credentials.";

    SASL_CLIENT_CALLBACK_HANDLER_CLASS "sasl.client.callback.handler.class": Option<Class>,
        Any, ReadOnly, WithoutEffect(PLUGINS),
        "A class that supplies credentials.";

    SASL_LOGIN_CLASS "sasl.login.class": Option<Class>, Any, ReadOnly, WithoutEffect(PLUGINS),
        "A class that logs in.";

    SASL_LOGIN_CALLBACK_HANDLER_CLASS "sasl.login.callback.handler.class": Option<Class>,
        Any, ReadOnly, WithoutEffect(PLUGINS),
        "A class that supplies credentials for logging in.";

    SASL_LOGIN_CONNECT_TIMEOUT_MS "sasl.login.connect.timeout.ms": Option<Int>,
        Any, ReadOnly, WithoutEffect(SECURITY),
        "How long connecting to an identity provider may take.";

    SASL_LOGIN_READ_TIMEOUT_MS "sasl.login.read.timeout.ms": Option<Int>,
        Any, ReadOnly, WithoutEffect(SECURITY),
        "How long an identity provider's answer may take.";

    SASL_LOGIN_RETRY_BACKOFF_MS "sasl.login.retry.backoff.ms": Long = 100,
        Any, ReadOnly, WithoutEffect(SECURITY),
        "How long to wait at first before an identity provider is asked again.";

    SASL_LOGIN_RETRY_BACKOFF_MAX_MS "sasl.login.retry.backoff.max.ms": Long = 10000,
        Any, ReadOnly, WithoutEffect(SECURITY),
        "How long to wait at most before an identity provider is asked again.";

    SASL_LOGIN_REFRESH_WINDOW_FACTOR "sasl.login.refresh.window.factor": Double = 0.8,
        Any, PerBroker, WithoutEffect(SECURITY),
        "At which part of its lifetime a credential is renewed.";

    SASL_LOGIN_REFRESH_WINDOW_JITTER "sasl.login.refresh.window.jitter": Double = 0.05,
        Any, PerBroker, WithoutEffect(SECURITY),
        "The random part of the time at which a credential is renewed.";

    SASL_LOGIN_REFRESH_MIN_PERIOD_SECONDS "sasl.login.refresh.min.period.seconds": Short = 60,
        Any, PerBroker, WithoutEffect(SECURITY),
        "The least time between two renewals of a credential.";

    SASL_LOGIN_REFRESH_BUFFER_SECONDS "sasl.login.refresh.buffer.seconds": Short = 300,
        Any, PerBroker, WithoutEffect(SECURITY),
        "How long before its end a credential is renewed at the latest.";

    SASL_KERBEROS_SERVICE_NAME "sasl.kerberos.service.name": Option<String>,
        Any, PerBroker, WithoutEffect(SECURITY),
        "The Kerberos name of the broker.";

    SASL_KERBEROS_KINIT_CMD "sasl.kerberos.kinit.cmd": String = "/usr/bin/kinit",
        Any, PerBroker, WithoutEffect(SECURITY),
        "The path of the kinit command.";

    SASL_KERBEROS_TICKET_RENEW_WINDOW_FACTOR "sasl.kerberos.ticket.renew.window.factor": Double = 0.8,
        Any, PerBroker, WithoutEffect(SECURITY),
        "At which part of its lifetime a Kerberos ticket is renewed.";

    SASL_KERBEROS_TICKET_RENEW_JITTER "sasl.kerberos.ticket.renew.jitter": Double = 0.05,
        Any, PerBroker, WithoutEffect(SECURITY),
        "The random part of the time at which a Kerberos ticket is renewed.";

    SASL_KERBEROS_MIN_TIME_BEFORE_RELOGIN "sasl.kerberos.min.time.before.relogin": Long = 60000,
        Any, PerBroker, WithoutEffect(SECURITY),
        "The least time between two renewals of a Kerberos ticket.";

    SASL_KERBEROS_PRINCIPAL_TO_LOCAL_RULES "sasl.kerberos.principal.to.local.rules": List = "DEFAULT",
        Any, PerBroker, WithoutEffect(SECURITY),
        "Rules that turn Kerberos principals into user names.";

    SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL "sasl.oauthbearer.token.endpoint.url": Option<String>,
        Any, ReadOnly, WithoutEffect(SECURITY),
        "Where an OAuth token is obtained.";

    SASL_OAUTHBEARER_SCOPE "sasl.oauthbearer.scope": Option<String>, Any, ReadOnly, WithoutEffect(SECURITY),
        "The scope asked for with an OAuth token.";

    SASL_OAUTHBEARER_CLIENT_CREDENTIALS_CLIENT_ID "sasl.oauthbearer.client.credentials.client.id": Option<String>,
        Any, ReadOnly, WithoutEffect(SECURITY),
        "The client id for obtaining an OAuth token.";

    SASL_OAUTHBEARER_CLIENT_CREDENTIALS_CLIENT_SECRET "sasl.oauthbearer.client.credentials.client.secret": Option<Password>,
        Any, ReadOnly, WithoutEffect(SECURITY),
        "The client secret for obtaining an OAuth token.";

    SASL_OAUTHBEARER_ASSERTION_ALGORITHM "sasl.oauthbearer.assertion.algorithm": String = "RS256",
        OneOfIgnoreCase(&["ES256", "RS256"]), ReadOnly, WithoutEffect(SECURITY),
        "The algorithm that signs a JWT assertion.";

    SASL_OAUTHBEARER_ASSERTION_CLAIM_AUD "sasl.oauthbearer.assertion.claim.aud": Option<String>,
        Any, ReadOnly, WithoutEffect(SECURITY),
        "The audience claim of a JWT assertion.";

    SASL_OAUTHBEARER_ASSERTION_CLAIM_EXP_SECONDS "sasl.oauthbearer.assertion.claim.exp.seconds": Int = 300,
        Between(0, 86400), ReadOnly, WithoutEffect(SECURITY),
        "How long a JWT assertion is valid.";

    SASL_OAUTHBEARER_ASSERTION_CLAIM_ISS "sasl.oauthbearer.assertion.claim.iss": Option<String>,
        Any, ReadOnly, WithoutEffect(SECURITY),
        "The issuer claim of a JWT assertion.";

    SASL_OAUTHBEARER_ASSERTION_CLAIM_JTI_INCLUDE "sasl.oauthbearer.assertion.claim.jti.include": Boolean = false,
        Any, ReadOnly, WithoutEffect(SECURITY),
        "Whether a JWT assertion gets an id of its own.";

    SASL_OAUTHBEARER_ASSERTION_CLAIM_NBF_SECONDS "sasl.oauthbearer.assertion.claim.nbf.seconds": Int = 60,
        Between(0, 3600), ReadOnly, WithoutEffect(SECURITY),
        "How long before its making a JWT assertion is valid.";

    SASL_OAUTHBEARER_ASSERTION_CLAIM_SUB "sasl.oauthbearer.assertion.claim.sub": Option<String>,
        Any, ReadOnly, WithoutEffect(SECURITY),
        "The subject claim of a JWT assertion.";

    SASL_OAUTHBEARER_ASSERTION_FILE "sasl.oauthbearer.assertion.file": Option<String>,
        Any, ReadOnly, WithoutEffect(SECURITY),
        "A file with a ready JWT assertion.";

    SASL_OAUTHBEARER_ASSERTION_PRIVATE_KEY_FILE "sasl.oauthbearer.assertion.private.key.file": Option<String>,
        Any, ReadOnly, WithoutEffect(SECURITY),
        "A file with the key that signs JWT assertions.";

    SASL_OAUTHBEARER_ASSERTION_PRIVATE_KEY_PASSPHRASE "sasl.oauthbearer.assertion.private.key.passphrase": Option<Password>,
        Any, ReadOnly, WithoutEffect(SECURITY),
        "The passphrase of that key.";

    SASL_OAUTHBEARER_ASSERTION_TEMPLATE_FILE "sasl.oauthbearer.assertion.template.file": Option<String>,
        Any, ReadOnly, WithoutEffect(SECURITY),
        "A file with further claims of a JWT assertion.";

    SASL_OAUTHBEARER_JWKS_ENDPOINT_URL "sasl.oauthbearer.jwks.endpoint.url": Option<String>,
        Any, ReadOnly, WithoutEffect(SECURITY),
        "Where the keys that verify OAuth tokens are found.";

    SASL_OAUTHBEARER_JWKS_ENDPOINT_REFRESH_MS "sasl.oauthbearer.jwks.endpoint.refresh.ms": Long = 3600000,
        Any, ReadOnly, WithoutEffect(SECURITY),
        "How often those keys are read anew.";

    SASL_OAUTHBEARER_JWKS_ENDPOINT_RETRY_BACKOFF_MS "sasl.oauthbearer.jwks.endpoint.retry.backoff.ms": Long = 100,
        Any, ReadOnly, WithoutEffect(SECURITY),
        "How long to wait at first before those keys are asked for again.";

    SASL_OAUTHBEARER_JWKS_ENDPOINT_RETRY_BACKOFF_MAX_MS "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms": Long = 10000,
        Any, ReadOnly, WithoutEffect(SECURITY),
        "How long to wait at most before those keys are asked for again.";

    SASL_OAUTHBEARER_CLOCK_SKEW_SECONDS "sasl.oauthbearer.clock.skew.seconds": Int = 30,
        Any, ReadOnly, WithoutEffect(SECURITY),
        "How far the clocks of broker and identity provider may differ.";

    SASL_OAUTHBEARER_EXPECTED_AUDIENCE "sasl.oauthbearer.expected.audience": List = "",
        Any, ReadOnly, WithoutEffect(SECURITY),
        "The audiences of which an OAuth token must name one.";

    SASL_OAUTHBEARER_EXPECTED_ISSUER "sasl.oauthbearer.expected.issuer": Option<String>,
        Any, ReadOnly, WithoutEffect(SECURITY),
        "The issuer that an OAuth token must name.";

    SASL_OAUTHBEARER_SCOPE_CLAIM_NAME "sasl.oauthbearer.scope.claim.name": String = "scope",
        Any, ReadOnly, WithoutEffect(SECURITY),
        "The claim that holds a token's scope.";

    SASL_OAUTHBEARER_SUB_CLAIM_NAME "sasl.oauthbearer.sub.claim.name": String = "sub",
        Any, ReadOnly, WithoutEffect(SECURITY),
        "The claim that holds a token's subject.";

    SASL_OAUTHBEARER_JWT_RETRIEVER_CLASS "sasl.oauthbearer.jwt.retriever.class": Class = "org.apache.kafka.common.security.oauthbearer.DefaultJwtRetriever",
        Any, ReadOnly, WithoutEffect(PLUGINS),
        "A class that obtains OAuth tokens.";

    SASL_OAUTHBEARER_JWT_VALIDATOR_CLASS "sasl.oauthbearer.jwt.validator.class": Class = "org.apache.kafka.common.security.oauthbearer.DefaultJwtValidator",
        Any, ReadOnly, WithoutEffect(PLUGINS),
        "A class that verifies OAuth tokens.";

    SSL_CLIENT_AUTH "ssl.client.auth": String = "none",
        OneOf(&["required", "requested", "none"]), PerBroker, WithoutEffect(SECURITY),
        "Whether a client must, may or need not show a certificate.";

    SSL_ENABLED_PROTOCOLS "ssl.enabled.protocols": List = "TLSv1.2,TLSv1.3",
        Any, PerBroker, WithoutEffect(SECURITY),
        "The TLS versions that may be used.";

    SSL_PROTOCOL "ssl.protocol": String = "TLSv1.3", Any, PerBroker, WithoutEffect(SECURITY),
        "The TLS version that is preferred.";

    SSL_CIPHER_SUITES "ssl.cipher.suites": List = "", Any, PerBroker, WithoutEffect(SECURITY),
        "The cipher suites that may be used; empty means all that are safe.";

    SSL_KEYSTORE_TYPE "ssl.keystore.type": String = "JKS", Any, PerBroker, WithoutEffect(SECURITY),
        "The format of the key store: JKS, PKCS12 or PEM.";

    SSL_KEYSTORE_LOCATION "ssl.keystore.location": Option<String>, Any, PerBroker, WithoutEffect(SECURITY),
        "The file with the broker's key and certificate.";

    SSL_KEYSTORE_PASSWORD "ssl.keystore.password": Option<Password>, Any, PerBroker, WithoutEffect(SECURITY),
        "The password of the key store.";

    SSL_KEY_PASSWORD "ssl.key.password": Option<Password>, Any, PerBroker, WithoutEffect(SECURITY),
        "The password of the private key.";

    SSL_KEYSTORE_KEY "ssl.keystore.key": Option<Password>, Any, PerBroker, WithoutEffect(SECURITY),
        "The private key itself, as PEM.";

    SSL_KEYSTORE_CERTIFICATE_CHAIN "ssl.keystore.certificate.chain": Option<Password>,
        Any, PerBroker, WithoutEffect(SECURITY),
        "The broker's certificates themselves, as PEM.";

    SSL_TRUSTSTORE_TYPE "ssl.truststore.type": String = "JKS", Any, PerBroker, WithoutEffect(SECURITY),
        "The format of the trust store: JKS, PKCS12 or PEM.";

    SSL_TRUSTSTORE_LOCATION "ssl.truststore.location": Option<String>,
        Any, PerBroker, WithoutEffect(SECURITY),
        "The file with the certificates that are trusted.";

    SSL_TRUSTSTORE_PASSWORD "ssl.truststore.password": Option<Password>,
        Any, PerBroker, WithoutEffect(SECURITY),
        "The password of the trust store.";

    SSL_TRUSTSTORE_CERTIFICATES "ssl.truststore.certificates": Option<Password>,
        Any, PerBroker, WithoutEffect(SECURITY),
        "The trusted certificates themselves, as PEM.";

    SSL_PRINCIPAL_MAPPING_RULES "ssl.principal.mapping.rules": String = "DEFAULT",
        Any, ReadOnly, WithoutEffect(SECURITY),
        "Rules that turn a certificate's name into a user name.";

    SSL_ENDPOINT_IDENTIFICATION_ALGORITHM "ssl.endpoint.identification.algorithm": String = "https",
        Any, PerBroker, WithoutEffect(SECURITY),
        "How the name in a server's certificate is checked; empty turns the check off.";

    SSL_ALLOW_DN_CHANGES "ssl.allow.dn.changes": Boolean = false, Any, ReadOnly, WithoutEffect(SECURITY),
        "Whether a new certificate may have another distinguished name.";

    SSL_ALLOW_SAN_CHANGES "ssl.allow.san.changes": Boolean = false, Any, ReadOnly, WithoutEffect(SECURITY),
        "Whether a new certificate may have other alternative names.";

    SSL_ENGINE_FACTORY_CLASS "ssl.engine.factory.class": Option<Class>,
        Any, PerBroker, WithoutEffect(PLUGINS),
        "A class that makes the TLS engine.";

    SSL_PROVIDER "ssl.provider": Option<String>, Any, PerBroker, WithoutEffect(JVM),
        "The Java security provider of TLS.";

    SSL_KEYMANAGER_ALGORITHM "ssl.keymanager.algorithm": String = "SunX509",
        Any, PerBroker, WithoutEffect(JVM),
        "Java's algorithm for managing keys.";

    SSL_TRUSTMANAGER_ALGORITHM "ssl.trustmanager.algorithm": String = "PKIX",
        Any, PerBroker, WithoutEffect(JVM),
        "Java's algorithm for managing trust.";

    SSL_SECURE_RANDOM_IMPLEMENTATION "ssl.secure.random.implementation": Option<String>,
        Any, PerBroker, WithoutEffect(JVM),
        "Java's source of randomness for TLS.";
}
