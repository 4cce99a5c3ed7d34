package s3

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
)

// store is a bucket. Every call is one request.
type store struct {
	api    *awss3.Client
	bucket string
	o      *objectKeys
	// unconditional: the store does not know If-None-Match.
	unconditional bool
}

// part is a part of a multipart upload.
type part struct {
	number int32 // from 1
	size   int64
	sum    types.CompletedPart
}

var (
	errExists   = errors.New("there is an object of that name")
	errNoUpload = errors.New("the multipart upload is gone")
	errTimeout  = errors.New("no answer within s3.callTimeout")
)

// put stores a whole object, if there is none of that name.
func (b *store) put(ctx context.Context, key string, body io.ReadSeeker, size int64) error {
	in := &awss3.PutObjectInput{
		Bucket: &b.bucket, Key: &key, Body: body, ContentLength: &size, IfNoneMatch: b.absent(), ChecksumAlgorithm: b.o.algorithm,
		ExpectedBucketOwner: text(b.o.owner), StorageClass: types.StorageClass(b.o.class), ACL: types.ObjectCannedACL(b.o.acl),
		ServerSideEncryption: types.ServerSideEncryption(b.o.encryption), SSEKMSKeyId: text(b.o.kmsKey), ContentType: text(b.o.contentType),
	}
	_, err := b.api.PutObject(ctx, in)
	return b.conditional(mend(err))
}

// create begins a multipart upload.
func (b *store) create(ctx context.Context, key string) (id string, err error) {
	out, err := b.api.CreateMultipartUpload(ctx, &awss3.CreateMultipartUploadInput{
		Bucket: &b.bucket, Key: &key, ChecksumAlgorithm: b.o.algorithm,
		ExpectedBucketOwner: text(b.o.owner), StorageClass: types.StorageClass(b.o.class), ACL: types.ObjectCannedACL(b.o.acl),
		ServerSideEncryption: types.ServerSideEncryption(b.o.encryption), SSEKMSKeyId: text(b.o.kmsKey), ContentType: text(b.o.contentType),
	})
	if err != nil {
		return "", mend(err)
	}
	return aws.ToString(out.UploadId), nil
}

func (b *store) upload(ctx context.Context, key, id string, number int32, body io.ReadSeeker, size int64) (part, error) {
	out, err := b.api.UploadPart(ctx, &awss3.UploadPartInput{
		Bucket: &b.bucket, Key: &key, UploadId: &id, PartNumber: &number, Body: body, ContentLength: &size,
		ChecksumAlgorithm: b.o.algorithm, ExpectedBucketOwner: text(b.o.owner),
	})
	if err != nil {
		return part{}, mend(err)
	}
	return part{number, size, types.CompletedPart{
		PartNumber: &number, ETag: out.ETag, ChecksumCRC32: out.ChecksumCRC32, ChecksumCRC32C: out.ChecksumCRC32C,
		ChecksumSHA1: out.ChecksumSHA1, ChecksumSHA256: out.ChecksumSHA256,
	}}, nil
}

// complete makes an object of the parts, if there is none of that name.
func (b *store) complete(ctx context.Context, key, id string, parts []part) error {
	list := make([]types.CompletedPart, 0, len(parts))
	for _, p := range parts {
		list = append(list, p.sum)
	}
	_, err := b.api.CompleteMultipartUpload(ctx, &awss3.CompleteMultipartUploadInput{
		Bucket: &b.bucket, Key: &key, UploadId: &id, MultipartUpload: &types.CompletedMultipartUpload{Parts: list},
		IfNoneMatch: b.absent(), ExpectedBucketOwner: text(b.o.owner),
	})
	return b.conditional(mend(err))
}

func (b *store) abort(ctx context.Context, key, id string) error {
	_, err := b.api.AbortMultipartUpload(ctx, &awss3.AbortMultipartUploadInput{Bucket: &b.bucket, Key: &key, UploadId: &id, ExpectedBucketOwner: text(b.o.owner)})
	if err = mend(err); errors.Is(err, errNoUpload) {
		return nil
	}
	return err
}

// parts lists what an upload has.
func (b *store) parts(ctx context.Context, key, id string) (list []part, err error) {
	in := &awss3.ListPartsInput{Bucket: &b.bucket, Key: &key, UploadId: &id, ExpectedBucketOwner: text(b.o.owner)}
	for {
		out, err := b.api.ListParts(ctx, in)
		if err != nil {
			return nil, mend(err)
		}
		for i := range out.Parts {
			p := &out.Parts[i]
			list = append(list, part{aws.ToInt32(p.PartNumber), aws.ToInt64(p.Size), types.CompletedPart{
				PartNumber: p.PartNumber, ETag: p.ETag, ChecksumCRC32: p.ChecksumCRC32, ChecksumCRC32C: p.ChecksumCRC32C,
				ChecksumSHA1: p.ChecksumSHA1, ChecksumSHA256: p.ChecksumSHA256,
			}})
		}
		if !aws.ToBool(out.IsTruncated) || out.NextPartNumberMarker == nil {
			return list, nil
		}
		in.PartNumberMarker = out.NextPartNumberMarker
	}
}

// uploads lists the multipart uploads that are begun for that very key.
func (b *store) uploads(ctx context.Context, key string) (ids []string, err error) {
	out, err := b.api.ListMultipartUploads(ctx, &awss3.ListMultipartUploadsInput{Bucket: &b.bucket, Prefix: &key, ExpectedBucketOwner: text(b.o.owner)})
	if err != nil {
		return nil, mend(err)
	}
	for _, u := range out.Uploads {
		if aws.ToString(u.Key) == key {
			ids = append(ids, aws.ToString(u.UploadId))
		}
	}
	return ids, nil
}

// size returns how long an object is; false: there is none.
func (b *store) size(ctx context.Context, key string) (int64, bool, error) {
	out, err := b.api.HeadObject(ctx, &awss3.HeadObjectInput{Bucket: &b.bucket, Key: &key, ExpectedBucketOwner: text(b.o.owner)})
	var answer interface{ HTTPStatusCode() int }
	if errors.As(err, &answer) && answer.HTTPStatusCode() == http.StatusNotFound {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, mend(err)
	}
	return aws.ToInt64(out.ContentLength), true, nil
}

func (b *store) absent() *string {
	if b.unconditional {
		return nil
	}
	return aws.String("*")
}

// text is an optional text of a request.
func text(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// mend gives the answers that are no failures names, and takes what nobody can
// use out of the text of the others.
func mend(err error) error {
	var api smithy.APIError
	var sent *url.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded):
		return errTimeout
	case errors.As(err, &sent):
		return sent.Err
	case !errors.As(err, &api):
		return err
	}
	switch api.ErrorCode() {
	case "PreconditionFailed":
		return errExists
	case "NoSuchUpload":
		return errNoUpload
	}
	var answer interface{ HTTPStatusCode() int }
	status := 0
	if errors.As(err, &answer) {
		status = answer.HTTPStatusCode()
	}
	return &refusal{status, api.ErrorCode(), strings.TrimSpace(api.ErrorMessage())}
}

// refusal is an error that the store has answered.
type refusal struct {
	status        int
	code, message string
}

func (r *refusal) Error() string {
	s := r.code
	if r.message != "" {
		s += ": " + r.message
	}
	switch r.code {
	case "NoSuchBucket":
		s += " (s3.bucket is made by its owner, not by this sink)"
	case "AccessDenied", "SignatureDoesNotMatch", "InvalidAccessKeyId", "Forbidden":
		s += " (the sink needs s3:PutObject, s3:AbortMultipartUpload, s3:ListMultipartUploadParts, and s3:ListBucketMultipartUploads after a crash)"
	case "PermanentRedirect", "AuthorizationHeaderMalformed":
		s += " (the bucket is in another s3.region)"
	}
	return s
}

// forGood reports whether the store has said that it will never take this very object.
func (r *refusal) forGood() bool {
	switch r.code {
	case "KeyTooLongError", "InvalidObjectName", "XMinioInvalidObjectName", "EntityTooLarge", "EntityTooSmall", "InvalidPart", "InvalidPartOrder":
		return true
	}
	return false
}

// conditional finds out, from the answer to a conditional request, that the
// store has none.
func (b *store) conditional(err error) error {
	var r *refusal
	if !b.unconditional && errors.As(err, &r) && (r.status == http.StatusNotImplemented || r.code == "NotImplemented") {
		return errConditions
	}
	return err
}
