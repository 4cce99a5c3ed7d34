package s3

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
)

// doer makes HTTP requests.
type doer interface {
	Do(*http.Request) (*http.Response, error)
}

// connect makes the client of the store. It makes no request.
func (s *sink) connect() error {
	a := &s.access
	client := s.client
	if client == nil {
		var err error
		if client, err = s.transport(); err != nil {
			return err
		}
	}
	named, err := a.readProfiles()
	if err != nil {
		return err
	}
	region := cmp.Or(a.region, os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION"), named["region"])
	if region == "" && a.endpoint != "" {
		region = "us-east-1"
	}
	if region == "" {
		return errors.New("no region is known: set s3.region, or AWS_REGION")
	}
	who, err := a.provider(named, region, client)
	if err != nil {
		return err
	}
	o := awss3.Options{
		Region: region, Credentials: aws.NewCredentialsCache(who, func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = time.Minute }),
		HTTPClient: client, UsePathStyle: a.pathStyle, Retryer: aws.NopRetryer{}, DisableLogOutputChecksumValidationSkipped: true,
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired, ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
	}
	if a.endpoint != "" {
		o.BaseEndpoint = &a.endpoint
	}
	s.store = &store{api: awss3.New(o), bucket: s.bucket, o: &s.object}
	s.where = a.endpoint + "/" + s.bucket
	return nil
}

// transport makes connections, and keeps as many as there are requests at a time.
func (s *sink) transport() (doer, error) {
	secure, err := s.tls.Client(s.env)
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: connectTime}
	return &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, TLSClientConfig: secure, TLSHandshakeTimeout: connectTime,
			MaxIdleConnsPerHost: s.threads, IdleConnTimeout: 90 * time.Second, ExpectContinueTimeout: time.Second, MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // a signature is for one host
	}, nil
}

const connectTime = 10 * time.Second

// provider chooses who the sink is, as AWS's own clients do: the keys of the
// sink, those of the environment, a web identity (IRSA), a profile, a container
// (ECS, EKS pod identity), an instance. The SDK's own chain would add 1.7 MB to
// the binary for logins by people (SSO) and chains of roles.
func (a *accessKeys) provider(named profile, region string, client doer) (aws.CredentialsProvider, error) {
	env := aws.Credentials{
		AccessKeyID: os.Getenv("AWS_ACCESS_KEY_ID"), SecretAccessKey: os.Getenv("AWS_SECRET_ACCESS_KEY"), SessionToken: os.Getenv("AWS_SESSION_TOKEN"), Source: "Environment",
	}
	switch {
	case a.id != "":
		return credentials.NewStaticCredentialsProvider(a.id, a.secret, a.token), nil
	case a.role == "" && a.profile == "" && env.HasKeys():
		return credentials.StaticCredentialsProvider{Value: env}, nil
	}
	role, file := cmp.Or(a.role, os.Getenv("AWS_ROLE_ARN")), cmp.Or(a.tokenFile, os.Getenv("AWS_WEB_IDENTITY_TOKEN_FILE"))
	if a.role == "" && a.profile != "" || file == "" {
		role, file = named["role_arn"], named["web_identity_token_file"]
	}
	switch {
	case file != "" && role != "":
		return &webIdentity{role: role, file: file, session: cmp.Or(os.Getenv("AWS_ROLE_SESSION_NAME"), "millrace"), region: region, client: client}, nil
	case named.keys().HasKeys():
		return credentials.StaticCredentialsProvider{Value: named.keys()}, nil
	case named.elsewhere():
		return nil, errors.New("the AWS profile logs in by a process, SSO or another profile, which is not supported: give it keys, or a web_identity_token_file")
	case a.profile != "":
		return nil, fmt.Errorf("AWS profile %s has no credentials", a.profile)
	}
	return machine(client)
}

// containerHost serves credentials inside ECS.
const containerHost = "http://169.254.170.2"

// machine asks what the agent runs on.
func machine(client doer) (aws.CredentialsProvider, error) {
	endpoint := os.Getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")
	if path := os.Getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"); path != "" {
		endpoint = containerHost + path
	}
	if endpoint == "" {
		return ec2rolecreds.New(), nil
	}
	if !isURL(endpoint) {
		return nil, errors.New("AWS_CONTAINER_CREDENTIALS_FULL_URI is no URL")
	}
	return endpointcreds.New(endpoint, func(o *endpointcreds.Options) {
		o.HTTPClient = client
		o.AuthorizationToken = os.Getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN")
		if file := os.Getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"); file != "" {
			// It is changed from time to time.
			o.AuthorizationTokenProvider = endpointcreds.TokenProviderFunc(func() (string, error) {
				text, err := os.ReadFile(file)
				return strings.TrimSpace(string(text)), err
			})
		}
	}), nil
}
