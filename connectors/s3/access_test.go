package s3

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/core/sourcetest"
)

// clean takes what the machine knows of AWS out of the environment.
func clean(t *testing.T) {
	for _, name := range []string{
		"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_ROLE_ARN",
		"AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_SESSION_NAME", "AWS_ENDPOINT_URL_STS", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
		"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "AWS_CONTAINER_AUTHORIZATION_TOKEN",
	} {
		t.Setenv(name, "")
	}
	none := filepath.Join(t.TempDir(), "none")
	t.Setenv("AWS_CONFIG_FILE", none)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", none)
}

const tokenAnswer = `<AssumeRoleWithWebIdentityResponse xmlns="urn:x"><AssumeRoleWithWebIdentityResult><Credentials>
<AccessKeyId>irsa</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>2035-01-01T00:00:00Z</Expiration>
</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`

// far answers as the token service and as a container's service do.
type far struct {
	asked []string
	token string // of the last request
	form  url.Values
}

func (f *far) Do(r *http.Request) (*http.Response, error) {
	f.asked = append(f.asked, r.URL.String())
	f.token = r.Header.Get("Authorization")
	if r.Method == http.MethodPost {
		text, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		f.form, err = url.ParseQuery(string(text))
		return page(200, tokenAnswer), err
	}
	a := page(200, `{"AccessKeyId":"pod","SecretAccessKey":"s","Token":"t","Expiration":"2035-01-01T00:00:00Z"}`)
	a.Header.Set("Content-Type", "application/json")
	return a, nil
}

// Where credentials come from, in which order.
func TestCredentials(t *testing.T) {
	dir := t.TempDir()
	token := filepath.Join(dir, "token")
	config := filepath.Join(dir, "config")
	for name, text := range map[string]string{
		token: "the-token\n",
		config: "[default]\naws_access_key_id = def\naws_secret_access_key = s\nREGION = eu-north-1 # far\ns3 =\n  region = no\n" +
			"# [profile no]\n[profile  web] ; the pod's\n role_arn = no\nrole_arn = arn:web\nweb_identity_token_file = " + token + "\n" +
			"[profile chain]\nrole_arn = arn:x\nsource_profile = default\n[profile empty]\nregion = us-west-1\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	irsa := "AWS_ROLE_ARN=arn:irsa AWS_WEB_IDENTITY_TOKEN_FILE=" + token
	for _, c := range []struct{ name, env, kv, id, asked string }{
		{"keys of the sink", "AWS_ACCESS_KEY_ID=env AWS_SECRET_ACCESS_KEY=s", "accessKeyId=mine secretAccessKey=s", "mine", ""},
		{"environment", "AWS_ACCESS_KEY_ID=env AWS_SECRET_ACCESS_KEY=s " + irsa, "", "env", ""},
		{"web identity", irsa, "", "irsa", "https://sts.eu-west-1.amazonaws.com/"},
		{"web identity by keys", "AWS_ACCESS_KEY_ID=env AWS_SECRET_ACCESS_KEY=s", "roleArn=arn:irsa webIdentityTokenFile=" + token, "irsa", "https://sts.eu-west-1.amazonaws.com/"},
		{"its own service", irsa + " AWS_ENDPOINT_URL_STS=http://sts.local", "region=cn-north-1", "irsa", "http://sts.local"},
		{"in China", irsa, "region=cn-north-1", "irsa", "https://sts.cn-north-1.amazonaws.com.cn/"},
		{"default profile", "AWS_CONFIG_FILE=" + config, "", "def", ""},
		{"a profile with a web identity", "AWS_CONFIG_FILE=" + config, "profile=web", "irsa", "https://sts.eu-west-1.amazonaws.com/"},
		{"pod identity", "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://169.254.170.23/v1/credentials AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=" + token, "", "pod", "http://169.254.170.23/v1/credentials"},
		{"container", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/v2/x", "", "pod", "http://169.254.170.2/v2/x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			clean(t)
			t.Setenv("AWS_REGION", "eu-west-1")
			for _, kv := range strings.Fields(c.env) {
				k, v, _ := strings.Cut(kv, "=")
				t.Setenv(k, v)
			}
			f := new(far)
			s, faults := bind("endpoint= accessKeyId= secretAccessKey= " + c.kv)
			if faults.HasErrors() {
				t.Fatal(faults)
			}
			s.client, s.env = f, sourcetest.NewEnv(t, "k")
			if err := s.connect(); err != nil {
				t.Fatal(err)
			}
			got, err := s.store.api.Options().Credentials.Retrieve(context.Background())
			if err != nil || got.AccessKeyID != c.id {
				t.Fatalf("%q, %v", got.AccessKeyID, err)
			}
			if asked := strings.Join(f.asked, " "); asked != c.asked {
				t.Errorf("asked %q", asked)
			}
			switch {
			case c.id == "irsa" && (f.form.Get("WebIdentityToken") != "the-token" || !strings.HasPrefix(f.form.Get("RoleArn"), "arn:")):
				t.Errorf("sent %v", f.form)
			case c.name == "pod identity" && f.token != "the-token":
				t.Errorf("token %q", f.token)
			case c.id != "mine" && c.asked != "" && !got.CanExpire:
				t.Error("it never expires")
			}
		})
	}
	for kv, want := range map[string]string{
		"":              "no region is known",
		"profile=chain": "is not supported",
		"profile=empty": "has no credentials",
		"profile=other": "none of the name other",
	} {
		clean(t)
		if kv != "" {
			t.Setenv("AWS_REGION", "eu-west-1")
		}
		if kv != "" {
			t.Setenv("AWS_CONFIG_FILE", config)
		}
		s, _ := bind("endpoint= accessKeyId= secretAccessKey= " + kv)
		s.client, s.env = new(far), sourcetest.NewEnv(t, "k")
		if err := s.connect(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", kv, err, want)
		}
	}
}

func TestTokenIsRefused(t *testing.T) {
	err := refusedToken(403, []byte("<ErrorResponse><Error><Code>ExpiredTokenException</Code><Message>it has expired</Message></Error></ErrorResponse>"))
	if err.Error() != "ExpiredTokenException: it has expired" {
		t.Error(err)
	}
	if err := refusedToken(502, []byte("<html>")); err.Error() != "status 502" {
		t.Error(err)
	}
}

// Whatever is in a file of profiles, only what is below the section is taken.
func FuzzProfile(f *testing.F) {
	f.Add("[default]\na = 1\n[profile x]\nb=2 # c\n c = 3", "profile x")
	f.Add("[[]\n=\n", "")
	f.Fuzz(func(t *testing.T, text, section string) {
		p := profile{}
		found, err := p.read(strings.NewReader(text), section)
		if err == nil && !found && len(p) > 0 {
			t.Errorf("%q: %v of a section that is not there", text, p)
		}
		for k, v := range p {
			if k != strings.TrimSpace(k) || v != strings.TrimSpace(v) || strings.ContainsAny(v, "\n") {
				t.Errorf("%q: %q = %q", text, k, v)
			}
		}
	})
}

// What is not a whole set of keys is none.
func FuzzToken(f *testing.F) {
	f.Add([]byte(tokenAnswer))
	f.Add([]byte("<a><AssumeRoleWithWebIdentityResult><Credentials/></AssumeRoleWithWebIdentityResult></a>"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := readToken(text)
		if err == nil && (c.AccessKeyID == "" || c.SecretAccessKey == "" || c.SessionToken == "" || c.Expires.Equal(time.Time{})) {
			t.Errorf("%q gave %+v", text, c)
		}
	})
}
