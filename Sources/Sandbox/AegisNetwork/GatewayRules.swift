/// The kernel's rules in the gateway's namespace: the same for any number of instances, so that they are loaded once.
///
/// Nothing is forwarded there anyway, and nothing listens but the gateway: the rules send every connection to the egress
/// proxy and every question to the resolver, whatever address it was for, and count what they drop by link.
enum GatewayRules {
    /// The name of the table.
    static func table(_ node: String) -> String { "aegis_\(node)" }

    /// What all links of a node begin with; 15 characters are the kernel's limit.
    static func prefix(_ node: String) -> String { "ag\(node.prefix(6))" }

    /// What bridges of groups begin with; `prefix` of everything else's name.
    static func bridge(_ node: String, _ group: UInt32) -> String { "\(prefix(node))g\(group)" }
    /// The port of a member, by the number of its link.
    static func port(_ node: String, _ index: UInt32) -> String { "\(prefix(node))p\(index)" }
    /// The group of the kernel's packet log that refusals are told to.
    static let logGroup: UInt16 = 1

    /// The ruleset; loading it again replaces it, in one step.
    ///
    /// - Parameters:
    ///   - node: the node's id.
    ///   - members: those of groups who run already: what they send each other goes on in that step.
    /// - Returns: what `nft` is given.
    static func text(node: String, members: [KernelNetwork.Port] = []) -> String {
        let pins = members.map(\.pin).joined(separator: ",\n")
        return packets(node) + frames(node)
            + (members.isEmpty ? "" : "add element bridge \(table(node)) ports { \(pins) }\n")
    }

    /// How long the rules remember that a port of a group was used.
    static let remembersUse = Duration.seconds(86_400)

    /// Counts by interface, tells of a part that a flood cannot drown in, and drops. What a probe is about to send is told of as
    /// a probe's, and is not counted: a daemon that dies over a proof must not leave a refusal that looks like the instance's.
    private static let refusal = """
          set dropped { type ifname; size 65535; flags dynamic; counter; }
          set telling { type ifname; size 65535; flags dynamic; }
          set probes { type ifname . inet_service . ipv4_addr . inet_service; size 65535; }
          chain refuse {
            iifname . udp sport . ip daddr . udp dport @probes log prefix "probe" group \(logGroup) snaplen 96 drop
            update @dropped { iifname }
            update @telling { iifname limit rate 50/second burst 100 packets } log group \(logGroup) snaplen 96
            drop
          }
        """

    private static func packets(_ node: String) -> String {
        let links = "iifname \"\(prefix(node))*\""
        let often = "limit rate over 2000/second burst 4000 packets"
        let (names, egress) = (AddressPlan.resolverPort, AddressPlan.egressPort)
        return """
            add table inet \(table(node))
            delete table inet \(table(node))
            table inet \(table(node)) {
              set asking { type ifname; size 65535; flags dynamic; }
              set starting { type ifname; size 65535; flags dynamic; }
            \(refusal)
              chain early { type filter hook prerouting priority raw; policy accept;
                \(links) meta l4proto != { tcp, udp } goto refuse
                \(links) meta protocol != ip goto refuse
                \(links) udp dport != \(names) goto refuse
                \(links) fib daddr type { broadcast, multicast } goto refuse
                \(links) udp dport \(names) update @asking { iifname \(often) } goto refuse
                \(links) tcp flags & (syn | ack) == syn update @starting { iifname \(often) } goto refuse
              }
              chain redirected { type nat hook prerouting priority dstnat; policy accept;
                \(links) udp dport \(names) redirect to :\(names)
                \(links) tcp dport \(names) redirect to :\(names)
                \(links) meta l4proto tcp redirect to :\(egress)
              }
              chain input { type filter hook input priority filter; policy drop;
                \(links) udp dport \(names) accept
                \(links) tcp dport { \(names), \(egress) } accept
                \(links) goto refuse
              }
              chain forward { type filter hook forward priority filter; policy drop;
                \(links) goto refuse
              }
              chain output { type filter hook output priority filter; policy drop;
                oifname "\(prefix(node))*" udp sport \(names) accept
                oifname "\(prefix(node))*" ct state established tcp sport { \(names), \(egress) } accept
              }
            }

            """
    }

    /// What members of groups may send each other: IPv4 to one of them, from the address and hardware address of their own
    /// port, and questions for such addresses (decision D23). No bridge is spoken to itself. When a port was last used, by such
    /// IPv4, is known from what is left of its time in `used`.
    private static func frames(_ node: String) -> String {
        let single = "ether daddr & 01:00:00:00:00:00 == 00:00:00:00:00:00"
        return """
            add table bridge \(table(node))
            delete table bridge \(table(node))
            table bridge \(table(node)) {
              set ports { type ifname . ether_addr . ipv4_addr; size 65535; }
              set used { type ifname; size 65535; flags dynamic,timeout; timeout \(remembersUse.components.seconds)s; gc-interval 1h; }
            \(refusal)
              chain early { type filter hook prerouting priority filter; policy drop;
                ether type ip udp sport 67 goto refuse
                ether type ip \(single) iifname . ether saddr . ip saddr @ports accept
                ether type arp arp htype 1 arp ptype ip arp hlen 6 arp plen 4 arp operation { request, reply } \
            iifname . ether saddr . arp saddr ip @ports iifname . arp saddr ether . arp saddr ip @ports accept
                goto refuse
              }
              chain through { type filter hook forward priority filter; policy drop;
                ether type arp accept
                ether type ip oifname . ether daddr . ip daddr @ports goto pass
                goto refuse
              }
              chain pass {
                update @used { iifname }
                update @used { oifname }
                accept
              }
              chain local { type filter hook input priority filter; policy drop; }
              chain own { type filter hook output priority filter; policy drop; }
            }

            """
    }
}
