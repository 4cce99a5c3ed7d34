package s3

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// webIdentity trades a token in a file, such as that of a Kubernetes service
// account (IRSA), for temporary keys, by AssumeRoleWithWebIdentity of AWS's
// security token service. That request is not signed.
type webIdentity struct {
	role, file, session, region string
	client                      doer
}

const maxAnswer = 64 << 10

// Retrieve implements aws.CredentialsProvider.
func (w *webIdentity) Retrieve(ctx context.Context) (aws.Credentials, error) {
	c, err := w.assume(ctx)
	if err != nil {
		err = fmt.Errorf("assume role %s: %w", w.role, err)
	}
	return c, err
}

func (w *webIdentity) assume(ctx context.Context) (c aws.Credentials, err error) {
	token, err := os.ReadFile(w.file)
	if err != nil {
		return c, err
	}
	form := url.Values{
		"Action": {"AssumeRoleWithWebIdentity"}, "Version": {"2011-06-15"}, "RoleArn": {w.role}, "RoleSessionName": {w.session},
		"WebIdentityToken": {strings.TrimSpace(string(token))},
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, tokenService(w.region), strings.NewReader(form.Encode()))
	if err != nil {
		return c, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer, err := w.client.Do(r)
	if err != nil {
		return c, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return c, err
	}
	if answer.StatusCode != http.StatusOK {
		return c, refusedToken(answer.StatusCode, text)
	}
	return readToken(text)
}

// tokenService is the URL of the regional service.
func tokenService(region string) string {
	if u := os.Getenv("AWS_ENDPOINT_URL_STS"); u != "" {
		return u
	}
	domain := "amazonaws.com"
	if strings.HasPrefix(region, "cn-") {
		domain = "amazonaws.com.cn"
	}
	return "https://sts." + region + "." + domain + "/"
}

var errAnswer = errors.New("the answer has no credentials")

// readToken reads the answer of AssumeRoleWithWebIdentity.
func readToken(text []byte) (aws.Credentials, error) {
	var answer struct {
		Credentials struct {
			AccessKeyID     string    `xml:"AccessKeyId"`
			SecretAccessKey string    `xml:"SecretAccessKey"`
			SessionToken    string    `xml:"SessionToken"`
			Expiration      time.Time `xml:"Expiration"`
		} `xml:"AssumeRoleWithWebIdentityResult>Credentials"`
	}
	if err := xml.Unmarshal(text, &answer); err != nil {
		return aws.Credentials{}, errAnswer
	}
	got := &answer.Credentials
	c := aws.Credentials{
		AccessKeyID: got.AccessKeyID, SecretAccessKey: got.SecretAccessKey, SessionToken: got.SessionToken,
		CanExpire: true, Expires: got.Expiration, Source: "WebIdentity",
	}
	if !c.HasKeys() || c.SessionToken == "" || c.Expires.IsZero() {
		return aws.Credentials{}, errAnswer
	}
	return c, nil
}

func refusedToken(status int, text []byte) error {
	var answer struct {
		Code    string `xml:"Error>Code"`
		Message string `xml:"Error>Message"`
	}
	if err := xml.Unmarshal(text, &answer); err != nil || answer.Code == "" {
		return fmt.Errorf("status %d", status)
	}
	return fmt.Errorf("%s: %s", answer.Code, answer.Message)
}
