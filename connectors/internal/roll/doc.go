// Package roll holds what sinks that write into files of a store have in
// common: paths with escapes, and the limits at which a file ends. Both are
// those of Flume's hdfs sink.
//
//	Template   /events/%{app}/%Y-%m-%d/%H      parsed once, expanded for each run of equal headers
//	Clock      which time the escapes show: header or clock, zone, rounding
//	Limits     interval, size, count, idle time
//
// An escape is what Flume's BucketPath knows, no more and no less:
//
//	%{name}                           value of a header; missing: empty. Word characters, '.' and '-'
//	%[localhost] %[IP] %[FQDN]        this host, in any case of letters
//	%t %s                             ms (the header's text, never rounded) and seconds since 1970
//	%a %A %b %B                       Mon Monday May May (short, long)
//	%Y %y %m %n %d %e %j              2012 12 05 5 28 28 149 (n, e: not padded)
//	%H %k %I %l %p %M %S              13 13 01 1 PM 46 33 (k, l: not padded)
//	%c %D %z                          Mon May 28 13:46:33 2012; 05/28/12; +0000
//	%%                                %
//	% and another word character      nothing
//	% and anything else               stays as it is
package roll
