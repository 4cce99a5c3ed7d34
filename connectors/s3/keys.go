package s3

import (
	"errors"
	"net/url"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/millrace/millrace/core/conf"
)

// objectKeys say what is asked of the store for each object.
type objectKeys struct {
	owner, class, acl, encryption, kmsKey, contentType string
	checksum                                           string
	algorithm                                          types.ChecksumAlgorithm // of checksum, if it names one
}

const (
	checksumAuto = "auto"
	checksumNone = "none"
)

func (o *objectKeys) keys(k *conf.Keys) {
	k.String(&o.encryption, "s3.serverSideEncryption", "", "How the store encrypts objects: AES256, aws:kms or aws:kms:dsse; absent: as the bucket says.").
		Must(conf.OneOf("AES256", "aws:kms", "aws:kms:dsse"))
	k.String(&o.kmsKey, "s3.kmsKeyId", "", "Key of KMS to encrypt with; with aws:kms and aws:kms:dsse.")
	k.String(&o.class, "s3.storageClass", "", "Storage class, such as STANDARD_IA or INTELLIGENT_TIERING; absent: the store's default.")
	k.String(&o.acl, "s3.acl", "", "Canned ACL of objects, such as bucket-owner-full-control.")
	k.String(&o.owner, "s3.expectedBucketOwner", "", "Account that must own the bucket, or nothing is written.")
	k.String(&o.contentType, "s3.contentType", "", "Content-Type of objects.")
	k.String(&o.checksum, "s3.checksum", checksumAuto, "Checksum that the store verifies: CRC32, CRC32C, SHA1, SHA256 or none. auto: CRC32, and none with s3.endpoint, since many stores refuse it. What is sent is signed with its SHA-256 in any case, but over https with a checksum.").
		Must(conf.OneOf(checksumAuto, checksumNone, "CRC32", "CRC32C", "SHA1", "SHA256"))
}

func (o *objectKeys) check(r *conf.Report, endpoint bool) {
	if o.kmsKey != "" && !strings.HasPrefix(o.encryption, "aws:kms") {
		r.Error("s3.kmsKeyId", "goes with s3.serverSideEncryption = aws:kms")
	}
	o.algorithm = ""
	switch {
	case o.checksum == checksumAuto && !endpoint:
		o.algorithm = types.ChecksumAlgorithmCrc32
	case o.checksum != checksumAuto && o.checksum != checksumNone:
		o.algorithm = types.ChecksumAlgorithm(o.checksum)
	}
}

// accessKeys say where the store is and who asks.
type accessKeys struct {
	region, endpoint           string
	pathStyle                  bool
	id, secret, token, profile string
	role, tokenFile            string
}

func (a *accessKeys) keys(k *conf.Keys) {
	k.String(&a.region, "s3.region", "", "Region of the bucket. Falls back to AWS_REGION, AWS_DEFAULT_REGION, then to that of the profile; us-east-1 with s3.endpoint.")
	k.String(&a.endpoint, "s3.endpoint", "", "URL of a store that is not Amazon's, such as https://minio:9000.").Must(conf.That("an http or https URL", isURL))
	k.Bool(&a.pathStyle, "s3.pathStyle", false, "Name the bucket in the path of requests and not in the host; true with s3.endpoint.")
	k.String(&a.id, "s3.accessKeyId", "", "Access key. Without it credentials come from where AWS clients look: environment, web identity (IRSA), profile, container (pod identity), instance.")
	k.String(&a.secret, "s3.secretAccessKey", "", "Secret of the access key.").Secret()
	k.String(&a.token, "s3.sessionToken", "", "Session token of temporary keys.").Secret()
	k.String(&a.profile, "s3.profile", "", "Profile in the AWS configuration files; AWS_PROFILE, then default, by default.")
	k.String(&a.role, "s3.roleArn", "", "Role to assume with a web identity; AWS_ROLE_ARN by default.")
	k.String(&a.tokenFile, "s3.webIdentityTokenFile", "", "File with the token of the web identity; AWS_WEB_IDENTITY_TOKEN_FILE by default.")
}

func isURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil
}

func (a *accessKeys) check(r *conf.Report) {
	if a.endpoint != "" && !r.IsSet("s3.pathStyle") {
		a.pathStyle = true
	}
	if (a.id == "") != (a.secret == "") {
		r.Error("s3.accessKeyId", "goes with s3.secretAccessKey")
	}
	if a.token != "" && a.id == "" {
		r.Error("s3.sessionToken", "goes with s3.accessKeyId")
	}
	for key, set := range map[string]string{"s3.profile": a.profile, "s3.roleArn": a.role, "s3.webIdentityTokenFile": a.tokenFile} {
		if set != "" && a.id != "" {
			r.Warn(key, "has no effect with s3.accessKeyId")
		}
	}
	if a.role != "" && a.tokenFile == "" && os.Getenv("AWS_WEB_IDENTITY_TOKEN_FILE") == "" {
		r.Error("s3.roleArn", "needs s3.webIdentityTokenFile: a role is assumed with a web identity only")
	}
}

// location is what s3.path says: perhaps the bucket, and the path in it.
func location(text string) (bucket, path string, err error) {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok || strings.ContainsAny(scheme, "/%") {
		return "", text, nil
	}
	switch strings.ToLower(scheme) {
	case "s3", "s3a", "s3n":
	default:
		return "", "", errors.New("must be a path, or s3://bucket/path")
	}
	bucket, path, _ = strings.Cut(rest, "/")
	if bucket == "" || strings.Contains(bucket, "%") {
		return "", "", errors.New("has no bucket before its path, or one with an escape: a sink writes to one bucket")
	}
	return bucket, path, nil
}
