package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/configs"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest"
)

// RELIABILITY.md, 4.1 and 4.2: what hostile or broken input gets, each row on a running
// engine with the limits of the production profile (shipped), unless a row needs the
// inside of a package. CURLEW_ABUSE=1 makes the floods as large as the rows say.
//
//	4.1 socket                          where
//	Autobahn's cases                    connector TestAutobahn (its own command), TestConformance (by number)
//	split wakeups                       connector TestConformance_{CutAnywhere,Chopped,Bytewise}, TestAssembler_CutsMeanNothing, FuzzAssembler
//	own sweep, two frames a segment,    TestAbuse_SessionCutAnywhere; connector TestUpgrade_FramesGluedToTheHandshakeAreHandled
//	 glued to the handshake
//	broken frames, closes, UTF-8,       TestAbuse_BrokenFramesAreClosed; connector TestConformance
//	 binary, lengths, 10,000 fragments
//	memory of what is only declared     TestFlood_HealthyDoNotNotice; connector TestAssembler_AllocatesForWhatHasComeOnly
//	pings and pongs                     TestFlood_HealthyDoNotNotice; connector TestRate_TooManyPings
//	slow reader in a busy group         TestFlood_SlowReaderIsClosedAndComesBackExact; connector TestOutbox_*
//	slow writers                        TestFlood_HealthyDoNotNotice; connector TestSlowWriter_IsEnded
//	slow, endless, many headers         TestFlood_HealthyDoNotNotice, TestAbuse_HandshakesAreJudged; connector TestUpgrade_SlowHandshakeIsEnded
//	half-open                           TestAbuse_HalfOpenIsOffline; connector TestSilence_OfTheDefaultsIsUnderAMinute
//	10,000 connects in a second         TestFlood_HealthyDoNotNotice; connector TestAdmission, TestBurst_LeavesNoDescriptorBehind
//	compression, Origin, token in URL   TestAbuse_HandshakesAreJudged; connector TestUpgrade, TestClientIP
//	before auth, as another user        TestFlood_HealthyDoNotNotice (silence), TestInput_BadConnectsAreClosed, TestInput_BadFramesAreAnsweredOrClosed
//	expiry, revocation, password, ban   TestAccounts_{ExpiryClosesTheSocketUnlessRefreshed,RevocationClosesSockets},
//	                                    TestRevocation_EndsSocketsThoughTheKickIsLost, TestAbuse_RevokedTokensStayRevoked
//
//	4.2 tokens, accounts                where
//	the five rows that forge a token,   TestAbuse_ForgedTokensAreRefusedAlike; logic TestTokens_BadOnesAreRefusedAlike, FuzzTokens
//	 1 MiB of dots
//	secrets, debug, public ports        TestStartup_*; api/admin TestConfig_PublicAddressNeedsAToken
//	deleted, banned, logged out, wiped  TestAbuse_RevokedTokensStayRevoked
//	password storage                    TestAbuse_PasswordsAreKeptSalted; logic TestNewPassword_Bounds, TestDecodeHash_*
//	brute force                         TestAbuse_GuessingIsSlowedNotLockedOut; logic TestAuth_LimitsCountPerAccountAndPerAddress
//	enumeration                         TestAbuse_WhoExistsIsNotTold; logic TestAuth_LoginRefusesAllAlike
//	registration, look-alikes           TestAbuse_RegistrationIsLimitedAndTwinsAreRefused; logic TestNormalizeHandle
//	mass assignment                     TestAbuse_RolesAreNotAssigned

// shipped gives an engine the limits and times of the production profile.
func shipped(c *configs.Config) {
	p, err := configs.Profile("production")
	if err != nil {
		panic(err) // it is one
	}
	p.Connector.Listen, p.API.Listen = c.Connector.Listen, c.API.Listen
	p.Logic.Auth.KeysFile, p.Logic.Auth.GenerateKeys, p.Logic.Auth.ServerKeys = c.Logic.Auth.KeysFile, true, c.Logic.Auth.ServerKeys
	c.Connector, c.Logic, c.API = p.Connector, p.Logic, p.API
	c.Connector.DrainTime = -1 // the tests' own end
}

// abuse says that floods are to be as large as their rows say, and waits as long.
func abuse() bool { return os.Getenv("CURLEW_ABUSE") != "" }

// address is a client's, the same for the same n; each has limits of its own.
func address(n int) string { return fmt.Sprintf("127.0.%d.%d", 1+n/200, 1+n%200) }

// One user's limit is one over two nodes and two protocols. What is refused says when
// to come back, and never appears.
func TestLimits_HoldOverNodesAndProtocols(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	const rate, burst = 20, 40
	limited := func(c *configs.Config) { c.Logic.SendPerSecond, c.Logic.SendBurst = rate, burst }
	one, two := startEngine(t, s, limited), startEngine(t, s, limited)
	ada, bob, conv := one.pair(t)
	there := *ada
	there.base, there.socket = two.http, two.socket
	there.http = &client.HTTP{Base: two.http, Token: ada.http.Token}
	phone, tablet := ada.wire("phone"), there.wire("tablet")

	var mu sync.Mutex
	taken, refused := map[string]bool{}, 0
	start := time.Now()
	var wg sync.WaitGroup
	for i, send := range []func(protocol.Send) error{
		func(m protocol.Send) error { return asError(phone.ask("1", protocol.CmdSend, m).Error) },
		func(m protocol.Send) error { return asError(tablet.ask("1", protocol.CmdSend, m).Error) },
		func(m protocol.Send) error { _, err := ada.http.Send(context.Background(), m, false); return err },
		func(m protocol.Send) error { _, err := there.http.Send(context.Background(), m, false); return err },
	} {
		wg.Go(func() {
			for n := range 100 {
				text := fmt.Sprint("way ", i, " message ", n)
				err := send(textTo(bob.id, text))
				mu.Lock()
				var e *protocol.Error
				switch {
				case err == nil:
					taken[text] = true
				case errors.As(err, &e) && e.Code == "rate_limited" && e.Outcome == im.OutcomeRefused && e.Retryable && e.RetryAfterMS > 0:
					refused++
				default:
					t.Errorf("%s: %v", text, err)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	// Each node may have drawn some tokens ahead and not spent them: less is fine.
	if most := burst + rate*(time.Since(start).Seconds()+1); float64(len(taken)) > most {
		t.Errorf("%d of 400 were taken in %s, more than %.0f", len(taken), time.Since(start), most)
	}
	if refused == 0 || len(taken) == 0 {
		t.Errorf("%d taken, %d refused", len(taken), refused)
	}
	devtest.Eventually(t, "what was taken is stored", func() bool { return len(bob.history(conv)) >= len(taken) })
	ms := bob.history(conv)
	for _, m := range ms {
		if !taken[textOf(m)] {
			t.Errorf("%q was refused and is there", textOf(m))
		}
	}
	if len(ms) != len(taken) {
		t.Errorf("%d messages, %d were taken", len(ms), len(taken))
	}
}

func asError(e *protocol.Error) error {
	if e == nil {
		return nil
	}
	return e
}

// A connection that floods is closed with 4529, and others do not notice.
func TestLimits_FloodedConnectionIsClosed(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t), shipped)
	ada, bob, conv := e.pair(t)
	phone := bob.connect("phone")
	w := ada.wire("flood")
	for range 2000 {
		w.frame(1, []byte(`{"id":"1","cmd":"ping","data":{}}`))
	}
	if code, reason := w.ends(); code != protocol.CloseRateLimited {
		t.Errorf("closed with %d %s", code, reason)
	}
	ada.connect("phone").say(bob, "still here")
	devtest.Eventually(t, "Bob has it", func() bool { return len(phone.texts(conv)) == 1 })
}

// Records that are no tasks are parked; their neighbours in the partition flow.
func TestWorker_GarbageInTheLogIsParked(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	e := startEngine(t, s)
	l := startLoad(t, e.http, e.socket)
	l.more(50)
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections()
	broker := &kafka.Client{Addr: kafka.TCP(e.cfg.Queue.Brokers...), Transport: transport, Timeout: 10 * time.Second}
	garbage := [][]byte{nil, []byte("hello"), {1}, {1, 0xFF, 0xFF}, {9, 1, 2, 3}, bytes.Repeat([]byte{1}, 60<<10)}
	for p := range e.cfg.Queue.Partitions {
		var records []kafka.Record
		for _, g := range garbage {
			records = append(records, kafka.Record{Key: kafka.NewBytes([]byte("d1-2")), Value: kafka.NewBytes(g)})
		}
		resp, err := broker.Produce(t.Context(), &kafka.ProduceRequest{
			Topic: e.cfg.Queue.Prefix + string(im.LaneRealtime), Partition: p, RequiredAcks: kafka.RequireAll,
			Records: kafka.NewRecordReader(records...),
		})
		if err != nil || resp.Error != nil {
			t.Fatal(err, resp)
		}
	}
	l.more(100)
	l.finish()
	l.check(true)
	want := fmt.Sprintf(`curlew_jobs_messages_total{result="dead_unreadable"} %d`, len(garbage)*e.cfg.Queue.Partitions)
	devtest.Eventually(t, "all of it is parked", func() bool {
		return bytes.Contains(call{method: http.MethodGet, path: "/metrics"}.do(t, e.admin, "").body, []byte(want))
	})
}
