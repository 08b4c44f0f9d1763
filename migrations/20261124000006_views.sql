-- The views that finance and operations open. They only gain columns, at the end. Money is NUMERIC, before tax, as Vobiz states it,
-- never recomputed; amounts of different currencies never meet in one sum. Each view shows the zone in which its days are cut.

-- ---------------------------------------------------------------------------------------------------------------------
-- What numbers and codes mean: two tables that users may edit.

create table vobiz.prefix (
  prefix  text primary key check (prefix ~ '^\+[1-9][0-9]{0,8}$'),
  name    text not null check (name <> ''),
  country text not null check (country <> '')
);
comment on table  vobiz.prefix is 'What the beginning of an E.164 number says of its place: the longest match counts. Yours to edit: insert, update and delete rows as your tariff cuts destinations. Numbers are portable in India: a series names the operator to whom it was given or fell, not the one that serves the number today. Every reader sees these rows: name no single numbers.';
comment on column vobiz.prefix.prefix is 'Beginning of the number, with +, 2 to 10 characters.';
comment on column vobiz.prefix.name is 'Name of the destination.';
comment on column vobiz.prefix.country is 'Country or network, in English.';

create table vobiz.hangup_cause (
  code      integer unique,
  cause     text unique check (cause <> ''),
  name      text not null check (name <> ''),
  outcome   text not null check (outcome <> ''),
  effective boolean not null,
  constraint code_or_cause check ((code is null) <> (cause is null))
);
comment on table  vobiz.hangup_cause is 'The published hangup codes and texts, and how we group them. Both lists are open: what is not here has the outcome unknown. Yours to edit.';
comment on column vobiz.hangup_cause.code is 'hangup_cause_code of a CDR; NULL in a row about a text.';
comment on column vobiz.hangup_cause.cause is 'hangup_cause of a CDR, used where its code is not listed; NULL in a row about a code.';
comment on column vobiz.hangup_cause.name is 'Name as published; of a text: in words.';
comment on column vobiz.hangup_cause.outcome is 'Our grouping: completed, busy, no_answer, cancelled, rejected, invalid_number, barred, unreachable, network, credits, limit, application, machine, lost_race, timeout, unknown.';
comment on column vobiz.hangup_cause.effective is 'The network did its work, whether or not a person answered: counts as effective in the NER.';

insert into vobiz.hangup_cause (code, name, outcome, effective) values
  (0,    'Unknown', 'unknown', false),
  (1000, 'Canceled', 'cancelled', true),
  (1010, 'Canceled (Out Of Credits)', 'credits', false),
  (1020, 'Canceled (Simultaneous dial limit reached)', 'limit', false),
  (2000, 'Invalid Destination Address', 'invalid_number', false),
  (2010, 'Destination Out Of Service', 'unreachable', false),
  (2020, 'Endpoint Not Registered', 'unreachable', false),
  (2030, 'Destination Country Barred', 'barred', false),
  (2040, 'Destination Number Barred', 'barred', false),
  (2050, 'Destination Prefix Barred', 'barred', false),
  (2060, 'Loop Detected', 'network', false),
  (2070, 'Violates Media Anchoring', 'network', false),
  (3000, 'No Answer', 'no_answer', true),
  (3010, 'Busy Line', 'busy', true),
  (3020, 'Rejected', 'rejected', true),
  (3030, 'Unknown Caller ID', 'barred', false),
  (3040, 'Forbidden', 'barred', false),
  (3050, 'Unallocated number', 'invalid_number', false),
  (3070, 'Request timeout', 'network', false),
  (3080, 'Internal server error from carrier', 'network', false),
  (3090, 'Network congestion from carrier', 'network', false),
  (3100, 'Busy everywhere', 'busy', true),
  (3110, 'Declined', 'rejected', true),
  (3120, 'User does not exist anywhere', 'invalid_number', false),
  (3130, 'Spam block', 'barred', false),
  (3140, 'DNO Caller ID', 'barred', false),
  (4000, 'Normal Hangup', 'completed', true),
  (4010, 'End Of XML Instructions', 'completed', true),
  (4020, 'Multiparty Call Ended', 'completed', true),
  (4030, 'Kicked Out Of Multiparty Call', 'completed', true),
  -- Only in the example of the CDR list, not in the published table.
  (4100, 'No Answer', 'no_answer', true),
  (5000, 'Network Error', 'network', false),
  (5010, 'Internal Error', 'network', false),
  (5020, 'Routing Error', 'network', false),
  (5030, 'Concurrency Limit Breached', 'limit', false),
  (6000, 'Scheduled Hangup', 'timeout', true),
  (6010, 'Ring Timeout Reached', 'no_answer', true),
  (6020, 'Media Timeout', 'timeout', false),
  (7011, 'Error Reaching Answer URL', 'application', false),
  (7012, 'Error Reaching Action URL', 'application', false),
  (7013, 'Error Reaching Transfer URL', 'application', false),
  (7014, 'Error Reaching Redirect URL', 'application', false),
  (7022, 'Invalid Action URL', 'application', false),
  (7023, 'Invalid Transfer URL', 'application', false),
  (7024, 'Invalid Redirect URL', 'application', false),
  (7032, 'Invalid Method For Action URL', 'application', false),
  (7033, 'Invalid Method For Transfer URL', 'application', false),
  (7034, 'Invalid Method For Redirect URL', 'application', false),
  (8011, 'Invalid Answer XML', 'application', false),
  (8012, 'Invalid Action XML', 'application', false),
  (8013, 'Invalid Transfer XML', 'application', false),
  (8014, 'Invalid Redirect XML', 'application', false),
  (9000, 'Lost Race', 'lost_race', true),
  (9100, 'Machine Detected', 'machine', true),
  (9110, 'Confirm Key Challenge Failed', 'rejected', true);
insert into vobiz.hangup_cause (cause, name, outcome, effective) values
  ('NORMAL_CLEARING', 'Normal clearing', 'completed', true),
  ('SUCCESS', 'Success', 'completed', true),
  ('USER_BUSY', 'Busy', 'busy', true),
  ('NO_ANSWER', 'No answer', 'no_answer', true),
  ('NO_USER_RESPONSE', 'No user response', 'no_answer', true),
  ('ORIGINATOR_CANCEL', 'Cancelled by the caller', 'cancelled', true),
  ('CALL_REJECTED', 'Rejected', 'rejected', true),
  ('REJECTED', 'Rejected', 'rejected', true),
  ('INVALID_NUMBER', 'Invalid number', 'invalid_number', false),
  ('INVALID_NUMBER_FORMAT', 'Invalid number format', 'invalid_number', false),
  ('UNALLOCATED_NUMBER', 'Unallocated number', 'invalid_number', false),
  ('SUBSCRIBER_ABSENT', 'Subscriber absent', 'unreachable', false),
  ('USER_NOT_REGISTERED', 'User not registered', 'unreachable', false),
  ('DESTINATION_OUT_OF_ORDER', 'Destination out of order', 'unreachable', false),
  ('SERVICE_UNAVAILABLE', 'Service unavailable', 'network', false),
  ('SERVER_ERROR', 'Server error', 'network', false),
  ('PROTOCOL_ERROR', 'Protocol error', 'network', false),
  ('NETWORK_OUT_OF_ORDER', 'Network out of order', 'network', false),
  ('NORMAL_TEMPORARY_FAILURE', 'Temporary failure', 'network', false),
  ('SWITCH_CONGESTION', 'Switch congestion', 'network', false),
  ('MEDIA_TIMEOUT', 'Media timeout', 'timeout', false),
  ('LOSE_RACE', 'Another leg answered', 'lost_race', true),
  ('UNKNOWN', 'Unknown', 'unknown', false);

-- India: mobile numbers begin with 6 to 9; landlines with the STD code of the place, metros and the main ones of the states here. Codes that
-- begin with 7 or 8 share these digits with mobile series, so only subscriber numbers known to be landlines are named there.
-- The world: the country codes of the ITU.
insert into vobiz.prefix (prefix, name, country) values
  ('+91', 'India, other', 'India'), ('+916', 'India mobile', 'India'), ('+917', 'India mobile', 'India'),
  ('+918', 'India mobile', 'India'), ('+919', 'India mobile', 'India'), ('+9111', 'Delhi (landline)', 'India'),
  ('+9122', 'Mumbai (landline)', 'India'), ('+9133', 'Kolkata (landline)', 'India'), ('+9144', 'Chennai (landline)', 'India'),
  ('+9140', 'Hyderabad (landline)', 'India'), ('+9120', 'Pune (landline)', 'India'),
  ('+91120', 'Noida and Ghaziabad (landline)', 'India'), ('+91121', 'Meerut (landline)', 'India'),
  ('+91124', 'Gurugram (landline)', 'India'), ('+91129', 'Faridabad (landline)', 'India'), ('+91130', 'Sonipat (landline)', 'India'),
  ('+91131', 'Muzaffarnagar (landline)', 'India'), ('+91132', 'Saharanpur (landline)', 'India'),
  ('+91135', 'Dehradun (landline)', 'India'), ('+91141', 'Jaipur (landline)', 'India'), ('+91144', 'Alwar (landline)', 'India'),
  ('+91145', 'Ajmer (landline)', 'India'), ('+91151', 'Bikaner (landline)', 'India'), ('+91161', 'Ludhiana (landline)', 'India'),
  ('+91164', 'Bathinda (landline)', 'India'), ('+91171', 'Ambala (landline)', 'India'), ('+91172', 'Chandigarh (landline)', 'India'),
  ('+91175', 'Patiala (landline)', 'India'), ('+91177', 'Shimla (landline)', 'India'), ('+91180', 'Panipat (landline)', 'India'),
  ('+91181', 'Jalandhar (landline)', 'India'), ('+91183', 'Amritsar (landline)', 'India'), ('+91184', 'Karnal (landline)', 'India'),
  ('+91191', 'Jammu (landline)', 'India'), ('+91194', 'Srinagar (landline)', 'India'), ('+91212', 'Chinchwad (landline)', 'India'),
  ('+91217', 'Solapur (landline)', 'India'), ('+91231', 'Kolhapur (landline)', 'India'), ('+91233', 'Sangli (landline)', 'India'),
  ('+91240', 'Aurangabad (landline)', 'India'), ('+91241', 'Ahmednagar (landline)', 'India'), ('+91250', 'Vasai (landline)', 'India'),
  ('+91251', 'Kalyan (landline)', 'India'), ('+91253', 'Nashik (landline)', 'India'), ('+91257', 'Jalgaon (landline)', 'India'),
  ('+91260', 'Vapi (landline)', 'India'), ('+91261', 'Surat (landline)', 'India'), ('+91265', 'Vadodara (landline)', 'India'),
  ('+91268', 'Nadiad (landline)', 'India'), ('+91278', 'Bhavnagar (landline)', 'India'), ('+91281', 'Rajkot (landline)', 'India'),
  ('+91285', 'Junagadh (landline)', 'India'), ('+91286', 'Porbandar (landline)', 'India'), ('+91288', 'Jamnagar (landline)', 'India'),
  ('+91291', 'Jodhpur (landline)', 'India'), ('+91294', 'Udaipur (landline)', 'India'), ('+91326', 'Dhanbad (landline)', 'India'),
  ('+91341', 'Asansol (landline)', 'India'), ('+91342', 'Bardhaman (landline)', 'India'), ('+91343', 'Durgapur (landline)', 'India'),
  ('+91353', 'Siliguri (landline)', 'India'), ('+91360', 'Itanagar (landline)', 'India'), ('+91361', 'Guwahati (landline)', 'India'),
  ('+91364', 'Shillong (landline)', 'India'), ('+91370', 'Kohima (landline)', 'India'), ('+91373', 'Dibrugarh (landline)', 'India'),
  ('+91376', 'Jorhat (landline)', 'India'), ('+91381', 'Agartala (landline)', 'India'), ('+91385', 'Imphal (landline)', 'India'),
  ('+91389', 'Aizawl (landline)', 'India'), ('+913592', 'Gangtok (landline)', 'India'), ('+913192', 'Port Blair (landline)', 'India'),
  ('+91413', 'Puducherry (landline)', 'India'), ('+91416', 'Vellore (landline)', 'India'), ('+91421', 'Tiruppur (landline)', 'India'),
  ('+91422', 'Coimbatore (landline)', 'India'), ('+91424', 'Erode (landline)', 'India'), ('+91427', 'Salem (landline)', 'India'),
  ('+91431', 'Tiruchirappalli (landline)', 'India'), ('+91435', 'Kumbakonam (landline)', 'India'),
  ('+91451', 'Dindigul (landline)', 'India'), ('+91452', 'Madurai (landline)', 'India'), ('+91461', 'Thoothukudi (landline)', 'India'),
  ('+91462', 'Tirunelveli (landline)', 'India'), ('+91471', 'Thiruvananthapuram (landline)', 'India'),
  ('+91474', 'Kollam (landline)', 'India'), ('+91477', 'Alappuzha (landline)', 'India'), ('+91481', 'Kottayam (landline)', 'India'),
  ('+91484', 'Kochi (landline)', 'India'), ('+91487', 'Thrissur (landline)', 'India'), ('+91491', 'Palakkad (landline)', 'India'),
  ('+91495', 'Kozhikode (landline)', 'India'), ('+91497', 'Kannur (landline)', 'India'), ('+91512', 'Kanpur (landline)', 'India'),
  ('+91522', 'Lucknow (landline)', 'India'), ('+91532', 'Prayagraj (landline)', 'India'), ('+91542', 'Varanasi (landline)', 'India'),
  ('+91551', 'Gorakhpur (landline)', 'India'), ('+91562', 'Agra (landline)', 'India'), ('+91571', 'Aligarh (landline)', 'India'),
  ('+91581', 'Bareilly (landline)', 'India'), ('+91591', 'Moradabad (landline)', 'India'), ('+91612', 'Patna (landline)', 'India'),
  ('+91621', 'Muzaffarpur (landline)', 'India'), ('+91631', 'Gaya (landline)', 'India'), ('+91641', 'Bhagalpur (landline)', 'India'),
  ('+91651', 'Ranchi (landline)', 'India'), ('+91657', 'Jamshedpur (landline)', 'India'), ('+91661', 'Rourkela (landline)', 'India'),
  ('+91663', 'Sambalpur (landline)', 'India'), ('+91671', 'Cuttack (landline)', 'India'), ('+91674', 'Bhubaneswar (landline)', 'India'),
  ('+91680', 'Berhampur (landline)', 'India'), ('+917122', 'Nagpur (landline)', 'India'), ('+917212', 'Amravati (landline)', 'India'),
  ('+917242', 'Akola (landline)', 'India'), ('+917312', 'Indore (landline)', 'India'), ('+917342', 'Ujjain (landline)', 'India'),
  ('+917442', 'Kota (landline)', 'India'), ('+917512', 'Gwalior (landline)', 'India'), ('+917552', 'Bhopal (landline)', 'India'),
  ('+917612', 'Jabalpur (landline)', 'India'), ('+917712', 'Raipur (landline)', 'India'),
  ('+917882', 'Durg and Bhilai (landline)', 'India'), ('+918162', 'Tumakuru (landline)', 'India'),
  ('+918202', 'Udupi (landline)', 'India'), ('+918212', 'Mysuru (landline)', 'India'), ('+918242', 'Mangaluru (landline)', 'India'),
  ('+918312', 'Belagavi (landline)', 'India'), ('+918322', 'Goa (landline)', 'India'),
  ('+918362', 'Hubballi-Dharwad (landline)', 'India'), ('+918612', 'Nellore (landline)', 'India'),
  ('+918632', 'Guntur (landline)', 'India'), ('+918662', 'Vijayawada (landline)', 'India'), ('+918702', 'Warangal (landline)', 'India'),
  ('+918772', 'Tirupati (landline)', 'India'), ('+918782', 'Karimnagar (landline)', 'India'),
  ('+918832', 'Rajahmundry (landline)', 'India'), ('+918842', 'Kakinada (landline)', 'India'),
  ('+918912', 'Visakhapatnam (landline)', 'India'), ('+91802', 'Bengaluru (landline)', 'India'),
  ('+91803', 'Bengaluru (landline)', 'India'), ('+91804', 'Bengaluru (landline)', 'India'), ('+91806', 'Bengaluru (landline)', 'India'),
  ('+91792', 'Ahmedabad (landline)', 'India'), ('+91793', 'Ahmedabad (landline)', 'India'), ('+91794', 'Ahmedabad (landline)', 'India'),
  ('+91140', 'India telemarketing (140)', 'India'), ('+91160', 'India service and transactional calls (160)', 'India'),
  ('+911800', 'India toll-free (1800)', 'India'), ('+911860', 'India shared cost (1860)', 'India'),
  ('+1', 'United States and Canada', 'United States and Canada'), ('+1204', 'Canada', 'Canada'), ('+1226', 'Canada', 'Canada'),
  ('+1236', 'Canada', 'Canada'), ('+1249', 'Canada', 'Canada'), ('+1250', 'Canada', 'Canada'), ('+1289', 'Canada', 'Canada'),
  ('+1306', 'Canada', 'Canada'), ('+1343', 'Canada', 'Canada'), ('+1365', 'Canada', 'Canada'), ('+1387', 'Canada', 'Canada'),
  ('+1403', 'Canada', 'Canada'), ('+1416', 'Canada', 'Canada'), ('+1418', 'Canada', 'Canada'), ('+1431', 'Canada', 'Canada'),
  ('+1437', 'Canada', 'Canada'), ('+1438', 'Canada', 'Canada'), ('+1450', 'Canada', 'Canada'), ('+1506', 'Canada', 'Canada'),
  ('+1514', 'Canada', 'Canada'), ('+1519', 'Canada', 'Canada'), ('+1548', 'Canada', 'Canada'), ('+1579', 'Canada', 'Canada'),
  ('+1581', 'Canada', 'Canada'), ('+1587', 'Canada', 'Canada'), ('+1604', 'Canada', 'Canada'), ('+1613', 'Canada', 'Canada'),
  ('+1639', 'Canada', 'Canada'), ('+1647', 'Canada', 'Canada'), ('+1705', 'Canada', 'Canada'), ('+1709', 'Canada', 'Canada'),
  ('+1778', 'Canada', 'Canada'), ('+1780', 'Canada', 'Canada'), ('+1782', 'Canada', 'Canada'), ('+1807', 'Canada', 'Canada'),
  ('+1819', 'Canada', 'Canada'), ('+1825', 'Canada', 'Canada'), ('+1867', 'Canada', 'Canada'), ('+1873', 'Canada', 'Canada'),
  ('+1902', 'Canada', 'Canada'), ('+1905', 'Canada', 'Canada'), ('+1242', 'Bahamas', 'Bahamas'), ('+1246', 'Barbados', 'Barbados'),
  ('+1264', 'Anguilla', 'Anguilla'), ('+1268', 'Antigua and Barbuda', 'Antigua and Barbuda'),
  ('+1284', 'British Virgin Islands', 'British Virgin Islands'), ('+1340', 'US Virgin Islands', 'US Virgin Islands'),
  ('+1345', 'Cayman Islands', 'Cayman Islands'), ('+1441', 'Bermuda', 'Bermuda'), ('+1473', 'Grenada', 'Grenada'),
  ('+1649', 'Turks and Caicos Islands', 'Turks and Caicos Islands'), ('+1658', 'Jamaica', 'Jamaica'),
  ('+1664', 'Montserrat', 'Montserrat'), ('+1670', 'Northern Mariana Islands', 'Northern Mariana Islands'), ('+1671', 'Guam', 'Guam'),
  ('+1684', 'American Samoa', 'American Samoa'), ('+1721', 'Sint Maarten', 'Sint Maarten'), ('+1758', 'Saint Lucia', 'Saint Lucia'),
  ('+1767', 'Dominica', 'Dominica'), ('+1784', 'Saint Vincent and the Grenadines', 'Saint Vincent and the Grenadines'),
  ('+1787', 'Puerto Rico', 'Puerto Rico'), ('+1809', 'Dominican Republic', 'Dominican Republic'),
  ('+1829', 'Dominican Republic', 'Dominican Republic'), ('+1849', 'Dominican Republic', 'Dominican Republic'),
  ('+1868', 'Trinidad and Tobago', 'Trinidad and Tobago'), ('+1869', 'Saint Kitts and Nevis', 'Saint Kitts and Nevis'),
  ('+1876', 'Jamaica', 'Jamaica'), ('+1939', 'Puerto Rico', 'Puerto Rico'),
  ('+1800', 'North America toll-free', 'North America toll-free'), ('+1833', 'North America toll-free', 'North America toll-free'),
  ('+1844', 'North America toll-free', 'North America toll-free'), ('+1855', 'North America toll-free', 'North America toll-free'),
  ('+1866', 'North America toll-free', 'North America toll-free'), ('+1877', 'North America toll-free', 'North America toll-free'),
  ('+1888', 'North America toll-free', 'North America toll-free'), ('+20', 'Egypt', 'Egypt'), ('+211', 'South Sudan', 'South Sudan'),
  ('+212', 'Morocco', 'Morocco'), ('+213', 'Algeria', 'Algeria'), ('+216', 'Tunisia', 'Tunisia'), ('+218', 'Libya', 'Libya'),
  ('+220', 'Gambia', 'Gambia'), ('+221', 'Senegal', 'Senegal'), ('+222', 'Mauritania', 'Mauritania'), ('+223', 'Mali', 'Mali'),
  ('+224', 'Guinea', 'Guinea'), ('+225', 'Ivory Coast', 'Ivory Coast'), ('+226', 'Burkina Faso', 'Burkina Faso'),
  ('+227', 'Niger', 'Niger'), ('+228', 'Togo', 'Togo'), ('+229', 'Benin', 'Benin'), ('+230', 'Mauritius', 'Mauritius'),
  ('+231', 'Liberia', 'Liberia'), ('+232', 'Sierra Leone', 'Sierra Leone'), ('+233', 'Ghana', 'Ghana'), ('+234', 'Nigeria', 'Nigeria'),
  ('+235', 'Chad', 'Chad'), ('+236', 'Central African Republic', 'Central African Republic'), ('+237', 'Cameroon', 'Cameroon'),
  ('+238', 'Cape Verde', 'Cape Verde'), ('+239', 'Sao Tome and Principe', 'Sao Tome and Principe'),
  ('+240', 'Equatorial Guinea', 'Equatorial Guinea'), ('+241', 'Gabon', 'Gabon'), ('+242', 'Congo', 'Congo'),
  ('+243', 'DR Congo', 'DR Congo'), ('+244', 'Angola', 'Angola'), ('+245', 'Guinea-Bissau', 'Guinea-Bissau'),
  ('+246', 'Diego Garcia', 'Diego Garcia'), ('+247', 'Ascension', 'Ascension'), ('+248', 'Seychelles', 'Seychelles'),
  ('+249', 'Sudan', 'Sudan'), ('+250', 'Rwanda', 'Rwanda'), ('+251', 'Ethiopia', 'Ethiopia'), ('+252', 'Somalia', 'Somalia'),
  ('+253', 'Djibouti', 'Djibouti'), ('+254', 'Kenya', 'Kenya'), ('+255', 'Tanzania', 'Tanzania'), ('+256', 'Uganda', 'Uganda'),
  ('+257', 'Burundi', 'Burundi'), ('+258', 'Mozambique', 'Mozambique'), ('+260', 'Zambia', 'Zambia'),
  ('+261', 'Madagascar', 'Madagascar'), ('+262', 'Reunion and Mayotte', 'Reunion and Mayotte'), ('+263', 'Zimbabwe', 'Zimbabwe'),
  ('+264', 'Namibia', 'Namibia'), ('+265', 'Malawi', 'Malawi'), ('+266', 'Lesotho', 'Lesotho'), ('+267', 'Botswana', 'Botswana'),
  ('+268', 'Eswatini', 'Eswatini'), ('+269', 'Comoros', 'Comoros'), ('+27', 'South Africa', 'South Africa'),
  ('+290', 'Saint Helena', 'Saint Helena'), ('+291', 'Eritrea', 'Eritrea'), ('+297', 'Aruba', 'Aruba'),
  ('+298', 'Faroe Islands', 'Faroe Islands'), ('+299', 'Greenland', 'Greenland'), ('+30', 'Greece', 'Greece'),
  ('+31', 'Netherlands', 'Netherlands'), ('+32', 'Belgium', 'Belgium'), ('+33', 'France', 'France'), ('+34', 'Spain', 'Spain'),
  ('+350', 'Gibraltar', 'Gibraltar'), ('+351', 'Portugal', 'Portugal'), ('+352', 'Luxembourg', 'Luxembourg'),
  ('+353', 'Ireland', 'Ireland'), ('+354', 'Iceland', 'Iceland'), ('+355', 'Albania', 'Albania'), ('+356', 'Malta', 'Malta'),
  ('+357', 'Cyprus', 'Cyprus'), ('+358', 'Finland', 'Finland'), ('+359', 'Bulgaria', 'Bulgaria'), ('+36', 'Hungary', 'Hungary'),
  ('+370', 'Lithuania', 'Lithuania'), ('+371', 'Latvia', 'Latvia'), ('+372', 'Estonia', 'Estonia'), ('+373', 'Moldova', 'Moldova'),
  ('+374', 'Armenia', 'Armenia'), ('+375', 'Belarus', 'Belarus'), ('+376', 'Andorra', 'Andorra'), ('+377', 'Monaco', 'Monaco'),
  ('+378', 'San Marino', 'San Marino'), ('+380', 'Ukraine', 'Ukraine'), ('+381', 'Serbia', 'Serbia'),
  ('+382', 'Montenegro', 'Montenegro'), ('+383', 'Kosovo', 'Kosovo'), ('+385', 'Croatia', 'Croatia'), ('+386', 'Slovenia', 'Slovenia'),
  ('+387', 'Bosnia and Herzegovina', 'Bosnia and Herzegovina'), ('+389', 'North Macedonia', 'North Macedonia'), ('+39', 'Italy', 'Italy'),
  ('+40', 'Romania', 'Romania'), ('+41', 'Switzerland', 'Switzerland'), ('+420', 'Czechia', 'Czechia'), ('+421', 'Slovakia', 'Slovakia'),
  ('+423', 'Liechtenstein', 'Liechtenstein'), ('+43', 'Austria', 'Austria'), ('+44', 'United Kingdom', 'United Kingdom'),
  ('+45', 'Denmark', 'Denmark'), ('+46', 'Sweden', 'Sweden'), ('+47', 'Norway', 'Norway'), ('+48', 'Poland', 'Poland'),
  ('+49', 'Germany', 'Germany'), ('+500', 'Falkland Islands', 'Falkland Islands'), ('+501', 'Belize', 'Belize'),
  ('+502', 'Guatemala', 'Guatemala'), ('+503', 'El Salvador', 'El Salvador'), ('+504', 'Honduras', 'Honduras'),
  ('+505', 'Nicaragua', 'Nicaragua'), ('+506', 'Costa Rica', 'Costa Rica'), ('+507', 'Panama', 'Panama'),
  ('+508', 'Saint Pierre and Miquelon', 'Saint Pierre and Miquelon'), ('+509', 'Haiti', 'Haiti'), ('+51', 'Peru', 'Peru'),
  ('+52', 'Mexico', 'Mexico'), ('+53', 'Cuba', 'Cuba'), ('+54', 'Argentina', 'Argentina'), ('+55', 'Brazil', 'Brazil'),
  ('+56', 'Chile', 'Chile'), ('+57', 'Colombia', 'Colombia'), ('+58', 'Venezuela', 'Venezuela'), ('+590', 'Guadeloupe', 'Guadeloupe'),
  ('+591', 'Bolivia', 'Bolivia'), ('+592', 'Guyana', 'Guyana'), ('+593', 'Ecuador', 'Ecuador'),
  ('+594', 'French Guiana', 'French Guiana'), ('+595', 'Paraguay', 'Paraguay'), ('+596', 'Martinique', 'Martinique'),
  ('+597', 'Suriname', 'Suriname'), ('+598', 'Uruguay', 'Uruguay'), ('+599', 'Curacao and Bonaire', 'Curacao and Bonaire'),
  ('+60', 'Malaysia', 'Malaysia'), ('+61', 'Australia', 'Australia'), ('+62', 'Indonesia', 'Indonesia'),
  ('+63', 'Philippines', 'Philippines'), ('+64', 'New Zealand', 'New Zealand'), ('+65', 'Singapore', 'Singapore'),
  ('+66', 'Thailand', 'Thailand'), ('+670', 'Timor-Leste', 'Timor-Leste'),
  ('+672', 'Norfolk Island and Antarctica', 'Norfolk Island and Antarctica'), ('+673', 'Brunei', 'Brunei'), ('+674', 'Nauru', 'Nauru'),
  ('+675', 'Papua New Guinea', 'Papua New Guinea'), ('+676', 'Tonga', 'Tonga'), ('+677', 'Solomon Islands', 'Solomon Islands'),
  ('+678', 'Vanuatu', 'Vanuatu'), ('+679', 'Fiji', 'Fiji'), ('+680', 'Palau', 'Palau'),
  ('+681', 'Wallis and Futuna', 'Wallis and Futuna'), ('+682', 'Cook Islands', 'Cook Islands'), ('+683', 'Niue', 'Niue'),
  ('+685', 'Samoa', 'Samoa'), ('+686', 'Kiribati', 'Kiribati'), ('+687', 'New Caledonia', 'New Caledonia'), ('+688', 'Tuvalu', 'Tuvalu'),
  ('+689', 'French Polynesia', 'French Polynesia'), ('+690', 'Tokelau', 'Tokelau'), ('+691', 'Micronesia', 'Micronesia'),
  ('+692', 'Marshall Islands', 'Marshall Islands'), ('+7', 'Russia', 'Russia'), ('+76', 'Kazakhstan', 'Kazakhstan'),
  ('+77', 'Kazakhstan', 'Kazakhstan'), ('+81', 'Japan', 'Japan'), ('+82', 'South Korea', 'South Korea'), ('+84', 'Vietnam', 'Vietnam'),
  ('+850', 'North Korea', 'North Korea'), ('+852', 'Hong Kong', 'Hong Kong'), ('+853', 'Macau', 'Macau'),
  ('+855', 'Cambodia', 'Cambodia'), ('+856', 'Laos', 'Laos'), ('+86', 'China', 'China'), ('+870', 'Inmarsat', 'Inmarsat'),
  ('+880', 'Bangladesh', 'Bangladesh'), ('+881', 'Satellite networks', 'Satellite networks'),
  ('+882', 'International networks', 'International networks'), ('+883', 'International networks', 'International networks'),
  ('+886', 'Taiwan', 'Taiwan'), ('+90', 'Turkey', 'Turkey'), ('+92', 'Pakistan', 'Pakistan'), ('+93', 'Afghanistan', 'Afghanistan'),
  ('+94', 'Sri Lanka', 'Sri Lanka'), ('+95', 'Myanmar', 'Myanmar'), ('+960', 'Maldives', 'Maldives'), ('+961', 'Lebanon', 'Lebanon'),
  ('+962', 'Jordan', 'Jordan'), ('+963', 'Syria', 'Syria'), ('+964', 'Iraq', 'Iraq'), ('+965', 'Kuwait', 'Kuwait'),
  ('+966', 'Saudi Arabia', 'Saudi Arabia'), ('+967', 'Yemen', 'Yemen'), ('+968', 'Oman', 'Oman'), ('+970', 'Palestine', 'Palestine'),
  ('+971', 'United Arab Emirates', 'United Arab Emirates'), ('+972', 'Israel', 'Israel'), ('+973', 'Bahrain', 'Bahrain'),
  ('+974', 'Qatar', 'Qatar'), ('+975', 'Bhutan', 'Bhutan'), ('+976', 'Mongolia', 'Mongolia'), ('+977', 'Nepal', 'Nepal'),
  ('+979', 'International premium rate', 'International premium rate'), ('+98', 'Iran', 'Iran'), ('+992', 'Tajikistan', 'Tajikistan'),
  ('+993', 'Turkmenistan', 'Turkmenistan'), ('+994', 'Azerbaijan', 'Azerbaijan'), ('+995', 'Georgia', 'Georgia'),
  ('+996', 'Kyrgyzstan', 'Kyrgyzstan'), ('+998', 'Uzbekistan', 'Uzbekistan'),
  ('+800', 'International toll-free', 'International toll-free'), ('+808', 'International shared cost', 'International shared cost'),
  ('+447', 'United Kingdom mobile', 'United Kingdom'), ('+9715', 'United Arab Emirates mobile', 'United Arab Emirates'),
  ('+658', 'Singapore mobile', 'Singapore'), ('+659', 'Singapore mobile', 'Singapore'), ('+9665', 'Saudi Arabia mobile', 'Saudi Arabia'),
  ('+614', 'Australia mobile', 'Australia');

-- Mobile series of the operators that are left in India, each under the one that was given it or took its holder over (Airtel: Tata
-- Docomo, Telenor; Vi: Vodafone, Idea); those of the others, and those that several share, are "India mobile". The series are facts of
-- the numbering plan, in the state of the carrier data of libphonenumber (Apache-2.0) of November 2024.
insert into vobiz.prefix (prefix, name, country)
select '+91' || s.series, 'India mobile, ' || o.operator || ' series', 'India'
from (values
  ('Airtel', '6230 6232 6287 6309 6358 6364 6366 6385 690 7022 7023 7024 7028 7032 7033 7037 7041 7042 7043 7044 7047 7050 7051 7054 7058 7060
7063 7068 7070 7073 7075 7077 7078 7080 7082 7085 7086 7087 7091 7093 7099 7190 7191 7192 7193 7194 7195 7200 7204 7205 7206 7207
7208 7209 7217 7223 7224 7225 7226 7227 7228 7250 7258 7259 7260 7266 7267 7268 7275 7276 7300 7302 7303 7304 7305 7318 7319 7338
7339 7340 7341 7356 7357 7358 7383 7384 7385 7386 7387 7388 7389 7396 7397 7398 7400 7404 7405 7411 7415 7416 7417 7418 7471 7501
7518 7523 7524 7525 7541 7542 7543 7568 7584 7585 7586 7600 7602 7607 7674 7675 7680 7681 7682 7684 7696 7702 7708 7709 7726 7727
7728 7736 7737 7738 7739 7742 7760 7794 7795 7801 7802 7807 7841 7842 7845 7869 7870 7880 7893 7894 7895 7896 7897 7898 7899 7993
7994 7995 8002 8003 8008 8009 8011 8015 8016 8018 8019 8050 8056 8082 8084 8085 8087 8089 8090 8092 8093 8097 8105 8106 8107 8109
8116 8121 8122 8123 8125 8126 8127 8128 8129 8130 8143 8146 8147 8148 8149 8171 8179 8180 8188 8197 8220 8233 8235 8237 8264 8266
8267 8271 8272 8273 8274 8276 8282 8283 8284 8288 8290 8292 8293 8294 8295 8296 8306 8341 8349 8354 8374 8382 8400 8401 8409 8413
8414 8415 8420 8421 8423 8427 8434 8436 8438 8439 8445 8446 8451 8452 8454 8455 8456 8457 8460 8471 8472 8473 8483 8484 8485 8487
8488 8490 8491 8492 8493 8511 8520 8521 8522 8527 8532 8533 8534 8539 8540 8541 8542 8545 8570 8571 8583 8584 8600 8602 8603 8604
8623 8624 8625 8626 8627 8628 8653 8655 8658 8670 8690 8699 8712 8714 8733 8734 8735 8736 8737 8738 8754 8755 8756 8757 8761 8769
8790 8791 8792 8793 8797 8800 8807 8809 8811 8812 8826 8827 8829 8852 8853 8854 8855 8856 8857 8858 8861 8862 8863 8864 8865 8866
8867 8868 8869 8870 8871 8885 8890 8891 8894 8897 8899 8904 8905 8922 8923 8924 8931 8942 8944 8945 8950 8951 8953 8956 8960
8961 8962 8967 8968 8969 8971 8972 8974 8976 8977 8978 8979 8981 8982 8983 8984 8997 8998 9000 9001 9002 9003 9004 9005 9006 9007
9008 9028 9029 903 9040 9041 9042 9043 9044 9045 9046 9056 9058 9059 9060 9063 9065 9068 9078 9084 9096 9100 9102 9104 9108 9109
9116 9118 9120 9121 9122 9124 9125 9136 9138 9147 9148 9150 9151 9154 9155 9156 9157 9162 9163 9166 9170 9172 9173 9175 9177 9178
9179 9198 9199 9200 9201 9202 9203 9204 9205 9208 9209 921 922 923 924 925 9262 927 9319 9341 9358 9384 9500 9501 9502 9503 9515
9519 9523 9535 9546 9547 9550 9556 9557 9558 9559 9560 9561 9566 9567 9571 9572 9573 9589 9591 9596 9597 9599 9600 9601 9602 9606
9611 9612 9618 9621 9622 9629 9630 9631 9632 9633 9634 9635 9636 9650 9651 9652 9660 9661 9662 9663 9665 9667 9668 9676 9677 9678
9679 9680 9685 9686 9695 9701 9704 9717 9724 9725 9729 9730 9731 9740 9741 9746 9748 9752 9755 9760 9766 9771 9777 9779 9784 9789
9790 9791 9793 9794 9797 9799 9800 9801 9805 9810 9815 9816 9818 9821 9829 9831 9840 9845 9849 9860 9862 9866 9867 9871 9872 9876
9878 9880 9890 9892 9893 9894 9895 9896 9897 9898 9900 9901 9902 9903 9906 9908 9910 9915 9928 9929 9931 9932 9933 9934 9935 9936
9937 9938 9939 9940 9944 9945 9949 9950 9952 9954 9955 9956 9957 9958 9959 9960 9963 9967 9970 9971 9972 9973 9974 9975 9980 9981
9987 9989 9993 9994 9995 9996 9997 9998'),
  ('BSNL', '602 603 7376 7382 7579 7587 7588 7597 7598 7599 7839 8004 8275 8277 8280 8281 8301 8304 8330 8331 8332 8333 8480 8500 8547 8762 8763
8764 8765 8895 8900 8901 8902 8903 8985 8986 8987 8988 8989 9141 9180 9181 9183 9184 9185 9186 9187 9188 9189 9190 9191 9192 9193
9194 9195 9196 9197 9385 94 9530 9531 9532 9683 9684'),
  ('Jio', '600 6200 6201 6202 6203 6204 6205 6206 6207 6238 6239 6260 6261 6263 6264 6265 6266 6267 6268 6280 6281 6282 6283 6284 6285 6286
6288 6289 6290 6291 6294 6295 6296 6297 6298 6299 6300 6301 6302 6303 6304 6305 6306 6307 6308 6350 6351 6352 6353 6354 6355 6360
6361 6362 6363 6365 6367 6368 6369 637 6380 6381 6382 6383 6386 6387 6388 6392 6393 6394 6395 6396 6397 6398 700 701 7020 7021 7029
7061 7067 7306 7307 7308 7419 7439 7483 7488 7489 7498 7499 7505 7569 7601 7620 7666 7667 7668 7671 7672 7676 7677 7679 7695 7723
7724 7735 7803 7804 7805 7806 7810 7814 7815 7817 7818 7819 7820 7821 7822 7827 7828 7846 7847 7848 7849 785 7861 7862 7864 7865
7866 7876 7877 7878 7879 7889 7892 7903 7904 7905 7906 7907 7908 7972 7973 7974 7975 7976 7977 7978 798 7990 7999 8000 8010 8072
8073 8074 8075 8076 8077 8080 8081 8088 8099 8100 8101 8102 8103 8104 8144 8160 8168 8169 8178 8200 8208 8209 8210 8218 8219 8230
8231 8234 8236 8240 8248 8249 8250 8251 8252 8253 8254 8255 8260 8261 8262 8263 8287 8299 8302 8303 8305 8307 8309 8310 8318 8319
8320 8329 8360 8368 8369 8388 8389 8391 8431 8443 8444 8459 8467 8468 8470 8509 8590 8591 8595 8610 8618 8619 8630 8638 8639 8660
8668 8687 8688 8700 8708 8709 8766 8767 8770 8778 8779 8780 8788 8789 8798 8799 8810 8815 8817 8820 8822 8824 8825 8830 8838 8839
8840 8848 8849 8850 8851 8880 8882 8893 8910 8918 8919 8920 8921 8927 8928 8949 8955 8957 8990 8999 9014 9015 9016 9017 9018 9019
9020 9021 9022 9023 9024 9025 9026 9027 9064 9074 9080 9082 9098 9101 9103 9106 9110 9113 9123 9131 9137 9140 9149 9182 9260 9261
9263 9265 9266 9267 9268 9269 9280 9281 9282 9283 9284 9286 9287 9288 9289 9290 9291 9292 9293 9295 9296 9297 9298 9299 930 9310
9311 9312 9313 9314 9315 9316 9317 9318 932 933 9340 9342 9343 9344 9345 9346 9347 9348 9349 9350 9351 9352 9353 9354 9356 9357 9359
936 9370 9372 9373 9377 9379 9380 9381 9382 9386 9387 9388 9389 939 9508 9509 9510 9518 9528 9529 9533 9541 9543 9548 9555 9569 9579
9580 9588 9590 9595 9607 9608 9625 9641 9664 9681 9691 9692 9693 9696 9699 9707 9749 9770 9778 9798 9817 9827 9832 9834 9835 9861
9863 9864 9877 9883 9905 9907'),
  ('MTNL', '9013 9757 9868 9869 9968 9969'),
  ('Vi', '6208 6209 6235 6262 6269 6292 6293 6356 6357 6359 6384 6389 6390 6391 6399 691 7025 7026 7027 7030 7034 7036 7038 7039 7045 7046
7049 7052 7055 7056 7057 7064 7065 7066 7069 7072 7074 7076 7079 7081 7083 7084 7088 7089 7090 7092 7094 7095 7096 7201 7202 7203
7211 7218 723 7240 7241 7247 7251 7252 7253 7254 7255 7256 7262 7263 7264 7265 7280 7281 7282 7283 7309 7350 7351 7352 7353 7354
7359 7377 7378 7379 7381 7406 7407 7408 7409 7440 7441 7448 7449 7500 7506 7507 7508 7509 7511 7517 7527 7528 7534 7535 7549 7560
7561 7562 7563 7564 7566 7567 7572 7573 7574 7575 7576 7580 7581 7582 7617 7621 7622 7623 7631 7639 7654 7659 7660 7661 7662 7663
7664 7665 7669 7689 7690 7691 7692 7693 7694 7697 7698 7699 7720 7721 7729 7730 7731 7732 7733 7734 7797 7798 7799 7800 7808 7824
7825 7826 7829 7830 7834 7835 7836 7837 7838 7860 7867 7868 7871 7872 7873 7874 7875 7890 7891 7902 7909 7996 7997 8001 8006 8007
8017 8051 8052 8053 8054 8055 8057 8058 8059 8086 8094 8095 8096 8098 8108 8120 8124 8140 8141 8142 8145 8185 8186 8190 8191 8192
8193 8194 8195 8196 8198 8199 8221 8222 8223 8224 8225 8226 8227 8228 8238 8239 8256 8257 8258 8259 8297 8298 8308 8334 8335 8336
8337 8338 8339 8342 8343 8345 8346 8347 8348 8350 8351 8352 8357 8358 8359 8370 8371 8372 8373 8375 8376 8377 8378 8379 8380 8390
8393 8394 8395 8397 8398 8399 8402 8403 8404 8405 8406 8407 8408 8412 8417 8418 8419 8422 8424 8425 8426 8428 8430 8432 8435 8437
8440 8441 8442 8447 8449 8461 8462 8463 8464 8465 8466 8469 8475 8476 8477 8478 8479 8481 8486 8489 8495 8496 8497 8498 8499 8501
8502 8503 8504 8505 8506 8510 8512 8513 8514 8515 8516 8517 8518 8524 8525 8535 8536 8537 8546 8548 8549 8551 8552 8554 8556 8557
8558 8573 8576 8577 8578 8579 8581 8586 8587 8588 8589 8592 8593 8594 8596 8598 8601 8605 8606 8607 8608 8609 8650 8651 8652 8657
8677 8680 8681 8682 8683 8684 8685 8689 8691 8692 8695 8696 8697 8698 8713 8715 8716 8718 8719 8721 8722 8723 8724 8725 8726 8727
8728 8739 8740 8741 8742 8743 8744 8745 8746 8747 8748 8750 8758 8768 8794 8795 8805 8806 8808 8813 8814 8816 8818 8819 8821 8859
8860 8872 8873 8874 8875 8876 8877 8878 8879 8881 8884 8886 8888 8889 8929 8930 8932 8933 8934 8937 8939 8940 8941 8943 8948 8954
8958 8959 8964 8965 8966 8970 8975 8980 9009 9010 9011 9012 9047 9048 9049 9050 9051 9052 9053 9055 9061 9062 9067 9070 9071 9072
9073 9075 9077 9081 9083 9085 9086 9087 9088 9089 9090 9091 9092 9093 9099 9105 9111 9114 9117 9126 9127 9128 9130 9133 9134 9135
9144 9146 9158 9159 9160 9161 9164 9165 9167 9168 9171 9174 9176 9207 9285 9355 9371 9374 9375 9376 9505 9506 9507 9512 9513 9514
9516 9517 9522 9525 9526 9527 9534 9536 9537 9538 9539 9540 9542 9544 9545 9549 9552 9553 9554 9562 9564 9565 9568 9570 9574 9575
9576 9581 9582 9583 9584 9585 9586 9587 9592 9593 9594 9598 9603 9604 9605 9609 9610 9616 9617 9619 9620 9623 9624 9626 9627 9628
9637 9639 9640 9642 9644 9645 9646 9647 9648 9649 9654 9655 9656 9657 9666 9669 9670 9671 9672 9673 9674 9675 9687 9689 9690 9694
9702 9703 9705 9706 9708 9709 9711 9712 9713 9714 9718 9719 9720 9721 9723 9726 9727 9728 9732 9733 9734 9735 9736 9737 9739 9742
9743 9744 9745 9747 9751 9753 9754 9756 9758 9759 9761 9763 9764 9765 9767 9769 9772 9774 9775 9776 9780 9781 9783 9785 9786 9787
9792 9795 9796 9811 9812 9813 9814 9819 9820 9822 9823 9824 9825 9826 9828 9830 9833 9836 9837 9838 9839 9843 9844 9846 9847 9848
9850 9855 9873 9874 9879 9881 9882 9884 9885 9886 9887 9888 9889 9891 9899 9904 9909 9911 9912 9913 9914 9916 9917 9918 9919 9920
9921 9922 9923 9924 9925 9926 9927 9930 9943 9946 9947 9948 9951 9953 9961 9962 9964 9966 9977 9978 9979 9982 9983 9984 9985 9986
9988 9990 9991 9992 9999')) as o (operator, series_list)
cross join regexp_split_to_table(o.series_list, '\s+') as s (series);

-- ---------------------------------------------------------------------------------------------------------------------
-- The days of each account.

create view vobiz.billing_account_day as
  with recursive owner as (
    -- Every account that owns a call, by one step in the index each.
    (select c.account_id from vobiz.cdr c order by c.account_id limit 1)
    union all
    select (select c.account_id from vobiz.cdr c where c.account_id > o.account_id order by c.account_id limit 1)
    from owner o where o.account_id is not null
  )
  select k.day, date_trunc('month', k.day::timestamp)::date as month, k.billing_zone, o.account_id, k.from_at, k.to_at
  from vobiz.billing_calendar() k
  cross join owner o
  where o.account_id is not null;
comment on view vobiz.billing_account_day is 'The billing days of each account that owns calls. The views below read the calls of one of these at a time, by its two instants, so a condition on day, month or account_id reads only the days that it names.';
comment on column vobiz.billing_account_day.day is 'Day in the billing zone.';
comment on column vobiz.billing_account_day.month is 'First day of its month.';
comment on column vobiz.billing_account_day.billing_zone is 'The zone in which days are cut (vobiz.setting).';
comment on column vobiz.billing_account_day.account_id is 'Account that owns calls, on this day or another.';
comment on column vobiz.billing_account_day.from_at is 'First instant of the day.';
comment on column vobiz.billing_account_day.to_at is 'First instant after the day.';

create function vobiz.billing_start(day date) returns timestamptz
  language sql stable parallel safe
  as $$ select vobiz.day_begins(day, (select s.billing_zone from vobiz.setting s)) $$;
comment on function vobiz.billing_start(date) is
  'First instant of a day in the billing zone. March is: day_at >= vobiz.billing_start(''2026-03-01'') and day_at < vobiz.billing_start(''2026-04-01'').';

-- ---------------------------------------------------------------------------------------------------------------------
-- One leg: the CDR, and what the views below say of it.

create view vobiz.leg as
  -- Since 2011 clocks have been right about the day at every quarter of an hour; before, a few were put over midnight.
  select case when c.day_at >= timestamptz '2011-01-01Z' then (c.day_at at time zone (select s.billing_zone from vobiz.setting s))::date
              else vobiz.day_of(c.day_at, (select s.billing_zone from vobiz.setting s)) end as day,
         (select s.billing_zone from vobiz.setting s) as billing_zone,
         c.call_id, c.account_id, c.listed_by, c.customer, c.day_at, c.call_direction, c.our_number, c.other_number, c.destination_number, c.destination_e164,
         coalesce(p10.prefix, p9.prefix, p8.prefix, p7.prefix, p6.prefix, p5.prefix, p4.prefix, p3.prefix, p2.prefix) as prefix,
         c.trunk_id, c.campaign_id, c.context, c.region, c.origination_region,
         c.start_time, c.progress_time, c.answer_time, c.end_time, c.duration, c.billsec, c.ring_time,
         coalesce(c.billsec > 0, false) as answered,
         vobiz.pulse_minutes(c.billsec) as pulse_minutes,
         c.cost, c.streaming_cost, c.total_cost, c.currency,
         c.hangup_cause, c.hangup_cause_code, coalesce(k.name, t.name, c.hangup_cause_name) as hangup_name,
         coalesce(k.outcome, t.outcome, 'unknown') as outcome,
         coalesce(c.billsec > 0, false) or coalesce(k.effective, t.effective, false) as effective,
         c.hangup_source, c.hangup_disposition, c.bridge_uuid, c.codec,
         nullif(c.mos, 0) as mos,
         case when c.mos > 0 then c.jitter end as jitter,
         case when c.mos > 0 then c.packet_loss end as packet_loss,
         c.origin, c.stored_at, c.revision
  from vobiz.customer_cdr c
  left join vobiz.hangup_cause k on k.code = c.hangup_cause_code
  left join vobiz.hangup_cause t on t.cause = c.hangup_cause
  -- One join for each length: three times as fast as one look for the longest, and none of them happens where nobody asks.
  left join vobiz.prefix p10 on p10.prefix = left(c.destination_e164, 10)
  left join vobiz.prefix p9 on p9.prefix = left(c.destination_e164, 9)
  left join vobiz.prefix p8 on p8.prefix = left(c.destination_e164, 8)
  left join vobiz.prefix p7 on p7.prefix = left(c.destination_e164, 7)
  left join vobiz.prefix p6 on p6.prefix = left(c.destination_e164, 6)
  left join vobiz.prefix p5 on p5.prefix = left(c.destination_e164, 5)
  left join vobiz.prefix p4 on p4.prefix = left(c.destination_e164, 4)
  left join vobiz.prefix p3 on p3.prefix = left(c.destination_e164, 3)
  left join vobiz.prefix p2 on p2.prefix = left(c.destination_e164, 2);
comment on view vobiz.leg is 'One row per CDR, that is per leg, with what the billing views derive from it. The base of all views below. Filter on account_id and day_at (see vobiz.billing_start): a condition on day reads all calls of the account.';
comment on column vobiz.leg.call_id is 'Vobiz''s uuid of the call.';
comment on column vobiz.leg.account_id is 'Account that owns the call.';
comment on column vobiz.leg.listed_by is 'Configured account whose list or path showed it.';
comment on column vobiz.leg.day is 'Day of day_at in the billing zone.';
comment on column vobiz.leg.billing_zone is 'The zone in which days are cut (vobiz.setting).';
comment on column vobiz.leg.customer is 'Customer by vobiz.customer_rule at day_at; ''unassigned'' where no rule fits.';
comment on column vobiz.leg.day_at is 'The billing instant: start_time, else end_time, created_at, stored_at.';
comment on column vobiz.leg.call_direction is 'inbound or outbound.';
comment on column vobiz.leg.our_number is 'The number on our side: caller of outbound calls, destination of inbound ones.';
comment on column vobiz.leg.other_number is 'The number on the other side.';
comment on column vobiz.leg.destination_number is 'Destination as sent.';
comment on column vobiz.leg.destination_e164 is 'Destination as E.164; NULL where it is no phone number.';
comment on column vobiz.leg.prefix is 'Longest match of destination_e164 in vobiz.prefix; NULL without one.';
comment on column vobiz.leg.trunk_id is 'Trunk; NULL for voice API calls.';
comment on column vobiz.leg.campaign_id is 'Campaign.';
comment on column vobiz.leg.context is 'voice-api, sip-trunking, …';
comment on column vobiz.leg.region is 'Region such as ap-south-1.';
comment on column vobiz.leg.origination_region is 'Place such as mumbai.';
comment on column vobiz.leg.start_time is 'Start of the call.';
comment on column vobiz.leg.progress_time is 'First progress, that is ringing.';
comment on column vobiz.leg.answer_time is 'When it was answered; NULL if it was not.';
comment on column vobiz.leg.end_time is 'End of the call.';
comment on column vobiz.leg.duration is 'Seconds, ringing and talking together.';
comment on column vobiz.leg.billsec is 'Seconds talked.';
comment on column vobiz.leg.ring_time is 'Seconds until answer or end.';
comment on column vobiz.leg.answered is 'Whether billsec is more than 0.';
comment on column vobiz.leg.pulse_minutes is 'billsec rounded up to whole minutes (pulse of 60 s); NULL where billsec is.';
comment on column vobiz.leg.cost is 'Cost of the leg in currency, before tax.';
comment on column vobiz.leg.streaming_cost is 'Cost of audio streaming in currency, before tax.';
comment on column vobiz.leg.total_cost is 'Total in currency, before tax, as Vobiz states it.';
comment on column vobiz.leg.currency is 'Currency of the three costs.';
comment on column vobiz.leg.hangup_cause is 'Text cause.';
comment on column vobiz.leg.hangup_cause_code is 'Vobiz''s hangup code.';
comment on column vobiz.leg.hangup_name is 'Name of the code, else of the text (vobiz.hangup_cause), else what the CDR calls it.';
comment on column vobiz.leg.outcome is 'Our grouping of the code, else of the text; unknown where neither is listed.';
comment on column vobiz.leg.effective is 'Answered, or the network did its work (busy, no answer, …): the numerator of the NER.';
comment on column vobiz.leg.hangup_source is 'Who ended it.';
comment on column vobiz.leg.hangup_disposition is 'How it was ended.';
comment on column vobiz.leg.bridge_uuid is 'Id shared by bridged legs.';
comment on column vobiz.leg.codec is 'PCMU, PCMA, opus, …';
comment on column vobiz.leg.mos is 'Mean opinion score, 1 to 5; NULL where no media flowed (Vobiz says 0).';
comment on column vobiz.leg.jitter is 'Jitter in milliseconds; NULL where no media flowed.';
comment on column vobiz.leg.packet_loss is 'Packet loss in percent; NULL where no media flowed.';
comment on column vobiz.leg.origin is 'Who stored it first: callback, sweep, backfill or manual.';
comment on column vobiz.leg.stored_at is 'When the first version was stored.';
comment on column vobiz.leg.revision is 'Number of versions kept.';

-- ---------------------------------------------------------------------------------------------------------------------
-- The totals of the billing day by one property each: seven views of one text. A day is read in a subquery of its own, so that
-- each day named is one range of the index (account_id, day_at).

do $do$
declare
  v record;
  words text;
begin
  for v in
    select * from (values
      ('billing_trunk', 'trunk_id', 'The billing totals of each day by trunk.', '{trunk_id}'::text[], '{Trunk; NULL for voice API calls.}'::text[]),
      ('billing_campaign', 'campaign_id', 'The billing totals of each day by campaign.', '{campaign_id}',
       '{"Campaign; NULL for calls that belong to none."}'),
      ('billing_number', 'our_number', 'The billing totals of each day by the number on our side: the caller of outbound calls, the number that was called of inbound ones.',
       '{our_number}', '{Our number.}'),
      ('billing_destination', 'prefix', 'The billing totals of each day by the place of the number that was called, the longest match in vobiz.prefix. Of inbound calls that is our own number: for spend by destination, take outbound. Names follow vobiz.prefix as it is now; a series names the operator that was given it, from which numbers may have been ported. Several prefixes share a name: add up by destination.',
       '{prefix,destination,country}', '{"Longest match in vobiz.prefix; NULL without one.",Its name.,Its country.}'),
      ('billing_region', 'region, origination_region', 'The billing totals of each day by region.',
       '{region,origination_region}', '{"Region such as ap-south-1.","Place such as mumbai."}'),
      ('billing_hangup', 'hangup_cause_code, hangup_cause, hangup_name, outcome', 'The billing totals of each day by hangup cause. Whether a call was answered is a matter of its seconds, not of its cause.',
       '{hangup_cause_code,hangup_cause,hangup_name,outcome}',
       '{"Vobiz''s hangup code.","Text cause.","Name of the code, else of the text.","Our grouping (vobiz.hangup_cause)."}'),
      ('billing_sub_account', 'listed_by', 'The billing totals of each day by the account that owns the calls (account_id, a sub-account or the main one) and the one whose list showed them.',
       '{listed_by}', '{Configured account whose list or path showed the calls.}')
    ) v (view, keys, about, names, comments)
  loop
    execute format($view$
      create view vobiz.%I as
        select k.day, k.month, k.billing_zone, k.account_id, %s
        from vobiz.billing_account_day k
        cross join lateral (
          select l.customer, %s, l.currency, l.call_direction,
                 count(*) as calls,
                 count(*) filter (where l.answered) as answered,
                 count(*) filter (where not l.answered and l.total_cost > 0) as unanswered_with_cost,
                 coalesce(sum(l.duration), 0)::bigint as duration,
                 coalesce(sum(l.billsec), 0)::bigint as billsec,
                 round(coalesce(sum(l.billsec), 0) / 60.0, 6) as minutes,
                 coalesce(sum(l.pulse_minutes), 0)::bigint as pulse_minutes,
                 coalesce(sum(l.cost), 0) as cost,
                 coalesce(sum(l.streaming_cost), 0) as streaming_cost,
                 coalesce(sum(l.total_cost), 0) as total_cost,
                 count(*) filter (where l.total_cost is null) as without_cost
          from vobiz.leg l
          where l.account_id = k.account_id and l.day_at >= k.from_at and l.day_at < k.to_at
          group by l.customer, %s, l.currency, l.call_direction) x
        %s
      $view$, v.view, case v.view when 'billing_destination' then 'x.*, p.name as destination, p.country' else 'x.*' end,
      v.keys, v.keys,
      -- What a prefix is called is looked up after adding up.
      case v.view when 'billing_destination' then 'left join vobiz.prefix p using (prefix)' else '' end);
    execute format('comment on view vobiz.%I is %L', v.view,
      v.about || ' Counts legs. Days are cut in the billing zone; a condition on day, month or account_id reads only these days.');
    for words in
      select format('comment on column vobiz.%I.%I is %L', v.view, n.name, n.about)
      from (select unnest(v.names), unnest(v.comments)
            union all
            values
              ('account_id', 'Account that owns the calls.'),
              ('month', 'First day of the month of day.'),
              ('day', 'Day in the billing zone, from its midnight up to the next: the calls whose day_at lies in it.'),
              ('billing_zone', 'The zone in which days are cut (vobiz.setting).'),
              ('customer', 'Customer by vobiz.customer_rule at the time of each call; ''unassigned'' where no rule fits.'),
              ('call_direction', 'inbound or outbound.'),
              ('currency', 'Currency of the amounts; never add different ones. NULL: the CDR names none.'),
              ('calls', 'Legs.'),
              ('answered', 'Legs with billsec over 0.'),
              ('unanswered_with_cost', 'Legs with billsec 0 or NULL and a total_cost over 0.'),
              ('duration', 'Seconds, ringing and talking; NULL counts as 0.'),
              ('billsec', 'Seconds talked; NULL counts as 0.'),
              ('minutes', 'billsec by 60, the sum rounded to 6 decimals, half up; add up billsec, not this.'),
              ('pulse_minutes', 'Minutes, each leg rounded up to 60 s before adding.'),
              ('cost', 'Sum of cost, before tax, unrounded; NULL counts as 0.'),
              ('streaming_cost', 'Sum of streaming_cost, before tax, unrounded; NULL counts as 0.'),
              ('total_cost', 'Sum of total_cost, before tax, unrounded; NULL counts as 0.'),
              ('without_cost', 'Legs whose total_cost is NULL: the sum says nothing of them.')
           ) n (name, about)
    loop
      execute words;
    end loop;
  end loop;
end
$do$;


create view vobiz.cost_per_minute as
  select k.day, k.month, k.billing_zone, k.account_id, x.*,
         round(x.cost * 60 / nullif(x.billsec, 0), 6) as per_minute,
         round(x.cost / nullif(x.pulse_minutes, 0), 6) as per_pulse_minute
  from vobiz.billing_account_day k
  cross join lateral (
    select l.customer, l.trunk_id, l.prefix, l.currency, l.call_direction,
           count(*) filter (where l.answered) as answered,
           coalesce(sum(l.billsec) filter (where l.answered), 0)::bigint as billsec,
           coalesce(sum(l.pulse_minutes) filter (where l.answered), 0)::bigint as pulse_minutes,
           coalesce(sum(l.cost) filter (where l.answered), 0) as cost,
           count(*) filter (where not l.answered) as unanswered,
           coalesce(sum(l.cost) filter (where not l.answered), 0) as unanswered_cost
    from vobiz.leg l
    where l.account_id = k.account_id and l.day_at >= k.from_at and l.day_at < k.to_at
    group by l.customer, l.trunk_id, l.prefix, l.currency, l.call_direction) x;
comment on view vobiz.cost_per_minute is 'What a minute really cost, by trunk, direction and destination prefix: to hold against the tariff. Over several days add up cost and minutes and divide then; do not average the rates.';
comment on column vobiz.cost_per_minute.day is 'Day in the billing zone, from its midnight up to the next.';
comment on column vobiz.cost_per_minute.month is 'First day of the month of day.';
comment on column vobiz.cost_per_minute.billing_zone is 'The zone in which days are cut (vobiz.setting).';
comment on column vobiz.cost_per_minute.account_id is 'Account that owns the calls.';
comment on column vobiz.cost_per_minute.customer is 'Customer by vobiz.customer_rule at the time of each call.';
comment on column vobiz.cost_per_minute.trunk_id is 'Trunk; NULL for voice API calls.';
comment on column vobiz.cost_per_minute.prefix is 'Longest match of the number that was called in vobiz.prefix; NULL without one.';
comment on column vobiz.cost_per_minute.currency is 'Currency of the amounts.';
comment on column vobiz.cost_per_minute.call_direction is 'inbound or outbound.';
comment on column vobiz.cost_per_minute.answered is 'Legs with billsec over 0.';
comment on column vobiz.cost_per_minute.billsec is 'Their seconds talked.';
comment on column vobiz.cost_per_minute.pulse_minutes is 'Their minutes, each leg rounded up to 60 s.';
comment on column vobiz.cost_per_minute.cost is 'Their cost without streaming, before tax, unrounded; NULL counts as 0.';
comment on column vobiz.cost_per_minute.unanswered is 'Legs that were not answered; they are in none of the rates.';
comment on column vobiz.cost_per_minute.unanswered_cost is 'What those cost.';
comment on column vobiz.cost_per_minute.per_minute is 'cost by exact minutes (billsec by 60), rounded to 6 decimals; NULL without seconds.';
comment on column vobiz.cost_per_minute.per_pulse_minute is 'cost by pulse_minutes, rounded to 6 decimals; NULL without minutes. A tariff with a 60 s pulse shows here.';

create view vobiz.cost_gap as
  select k.day, k.month, k.billing_zone, k.account_id, x.*
  from vobiz.billing_account_day k
  cross join lateral (
    select l.customer, l.call_id, l.day_at, l.call_direction, l.currency, l.cost, l.streaming_cost, l.total_cost,
           l.total_cost - l.cost - coalesce(l.streaming_cost, 0) as gap
    from vobiz.leg l
    where l.account_id = k.account_id and l.day_at >= k.from_at and l.day_at < k.to_at
      and (l.total_cost - l.cost - coalesce(l.streaming_cost, 0) <> 0 or (l.total_cost is null) <> (l.cost is null))) x;
comment on view vobiz.cost_gap is 'Calls whose total_cost is not cost plus streaming_cost, or where only one of them is known. Shown, never mended: ask Vobiz.';
comment on column vobiz.cost_gap.day is 'Day in the billing zone, from its midnight up to the next.';
comment on column vobiz.cost_gap.month is 'First day of the month of day.';
comment on column vobiz.cost_gap.billing_zone is 'The zone in which days are cut (vobiz.setting).';
comment on column vobiz.cost_gap.account_id is 'Account that owns the call.';
comment on column vobiz.cost_gap.customer is 'Customer by vobiz.customer_rule at the time of the call.';
comment on column vobiz.cost_gap.call_id is 'The call.';
comment on column vobiz.cost_gap.day_at is 'The billing instant.';
comment on column vobiz.cost_gap.call_direction is 'inbound or outbound.';
comment on column vobiz.cost_gap.currency is 'Currency of the amounts.';
comment on column vobiz.cost_gap.cost is 'Cost of the leg, as Vobiz states it.';
comment on column vobiz.cost_gap.streaming_cost is 'Cost of streaming, as Vobiz states it.';
comment on column vobiz.cost_gap.total_cost is 'Total, as Vobiz states it.';
comment on column vobiz.cost_gap.gap is 'total_cost - cost - streaming_cost (NULL streaming counts as 0), exact; NULL where one of the first two is.';

create function vobiz.read_number(words text) returns numeric
  language sql immutable parallel safe
  as $$ select case when words ~ '^\s*[+-]?\d{1,20}(\.\d{1,20})?\s*$' then words::numeric end $$;
comment on function vobiz.read_number(text) is 'A decimal number, or NULL where the text is none.';

create view vobiz.stream as
  select k.day, k.month, k.billing_zone, k.account_id, c.customer, c.call_id, c.day_at, s.number,
         coalesce(s.item ->> 'stream_id', s.item ->> 'id', s.item ->> 'uuid') as stream_id,
         vobiz.read_number(s.item ->> 'billed_amount') as billed_amount,
         c.currency,
         vobiz.read_number(coalesce(s.item ->> 'bill_duration', s.item ->> 'duration')) as bill_duration,
         vobiz.read_number(s.item ->> 'rounded_bill_duration') as rounded_bill_duration,
         coalesce(s.item ->> 'stream_termination_reason', s.item ->> 'termination_reason') as termination_reason,
         c.streaming_cost as call_streaming_cost,
         s.item
  from vobiz.billing_account_day k
  cross join lateral (
    -- The fence keeps the next step from the calls that have no streams.
    select c.customer, c.call_id, c.day_at, c.currency, c.streaming_cost, c.extra
    from vobiz.customer_cdr c
    where c.account_id = k.account_id and c.day_at >= k.from_at and c.day_at < k.to_at
      -- Postgres cannot read keys beside an escaped U+0000.
      and c.extra is not null and c.extra::text like '%stream_cdrs%' and c.extra::text not like '%\\u0000%'
    offset 0) c
  cross join lateral json_array_elements(
    case json_typeof(c.extra -> 'stream_cdrs')
      when 'array' then c.extra -> 'stream_cdrs'
      when 'object' then json_build_array(c.extra -> 'stream_cdrs')
    end) with ordinality s (item, number);
comment on view vobiz.stream is 'The audio streams of the calls, one row each, from stream_cdrs in the record. Vobiz does not publish its form: what cannot be read is NULL, and item is what came.';
comment on column vobiz.stream.day is 'Day of the call in the billing zone.';
comment on column vobiz.stream.month is 'First day of the month of day.';
comment on column vobiz.stream.billing_zone is 'The zone in which days are cut (vobiz.setting).';
comment on column vobiz.stream.account_id is 'Account that owns the call.';
comment on column vobiz.stream.customer is 'Customer by vobiz.customer_rule at the time of the call.';
comment on column vobiz.stream.call_id is 'The call.';
comment on column vobiz.stream.day_at is 'The billing instant of the call.';
comment on column vobiz.stream.number is 'Place of the stream in the record, from 1.';
comment on column vobiz.stream.stream_id is 'Id of the stream.';
comment on column vobiz.stream.billed_amount is 'What the stream cost, in currency, before tax.';
comment on column vobiz.stream.currency is 'Currency of the call.';
comment on column vobiz.stream.bill_duration is 'Seconds streamed.';
comment on column vobiz.stream.rounded_bill_duration is 'Seconds as billed, in whole pulses.';
comment on column vobiz.stream.termination_reason is 'Why the stream ended.';
comment on column vobiz.stream.call_streaming_cost is 'streaming_cost of the whole call: on each of its streams, so never add it up.';
comment on column vobiz.stream.item is 'The stream as it came.';

-- ---------------------------------------------------------------------------------------------------------------------
-- Conversations and traffic.

create view vobiz.conversation as
  select k.day, k.month, k.billing_zone, k.account_id, x.customer, x.conversation_id, x.legs, x.call_ids, x.call_direction,
         x.first_start, x.last_end, x.answered, x.effective, x.outcome, x.ring_time, x.post_dial_delay, x.talked_seconds, x.billsec,
         case when x.currencies <= 1 then x.currency end as currency,
         case when x.currencies <= 1 then x.total_cost end as total_cost,
         (select jsonb_object_agg(m.currency, m.amount)
          from (select coalesce(e.currency, 'unknown') as currency, sum(e.amount) as amount
                from unnest(x.leg_currency, x.leg_cost) e (currency, amount) group by 1) m) as total_cost_by_currency
  from vobiz.billing_account_day k
  cross join lateral (
    select l.conversation_id,
           count(*) as legs,
           array_agg(l.call_id order by l.day_at, l.call_id) as call_ids,
           (array_agg(l.customer order by l.day_at, l.call_id))[1] as customer,
           (array_agg(l.call_direction order by l.day_at, l.call_id))[1] as call_direction,
           (array_agg(l.outcome order by l.day_at, l.call_id))[1] as outcome,
           (array_agg(l.ring_time order by l.day_at, l.call_id))[1] as ring_time,
           (array_agg(extract(epoch from l.progress_time - l.start_time) order by l.day_at, l.call_id))[1] as post_dial_delay,
           min(l.day_at) as first_start,
           max(l.end_time) as last_end,
           bool_or(l.answered) as answered,
           bool_or(l.effective) as effective,
           coalesce(max(l.billsec), 0) as talked_seconds,
           coalesce(sum(l.billsec), 0) as billsec,
           count(distinct coalesce(l.currency, '')) as currencies,
           min(l.currency) as currency,
           coalesce(sum(l.total_cost), 0) as total_cost,
           array_agg(l.currency) as leg_currency,
           array_agg(coalesce(l.total_cost, 0)) as leg_cost
    from (
      select c.*, min(c.day_at) over (partition by c.conversation_id, c.number) as began
      from (
        select b.*, count(*) filter (where b.day_at > b.before + interval '12 hours') over (
                      partition by b.conversation_id order by b.day_at, b.call_id) as number
        from (
          select coalesce(nullif(l.bridge_uuid, ''), l.call_id) as conversation_id,
                 lag(l.day_at) over (partition by coalesce(nullif(l.bridge_uuid, ''), l.call_id) order by l.day_at, l.call_id) as before,
                 l.call_id, l.day_at, l.end_time, l.start_time, l.progress_time, l.customer, l.call_direction, l.outcome, l.ring_time,
                 l.answered, l.effective, l.billsec, l.currency, l.total_cost
          from vobiz.leg l
          where l.account_id = k.account_id and l.day_at >= k.from_at - interval '12 hours'
            and l.day_at < (k.day + 1 + time '12:00') at time zone k.billing_zone) b) c) l
    -- A conversation belongs to the day in which it began, and takes legs until noon of the next: so half a day to either side shows
    -- all of it, and each leg belongs to one conversation of one day.
    where l.began >= k.from_at or l.day_at >= (k.day + time '12:00') at time zone k.billing_zone
    group by l.conversation_id, l.number
    having min(l.day_at) >= k.from_at and min(l.day_at) < k.to_at) x;
comment on view vobiz.conversation is 'Legs of one account that Vobiz tied together (bridge_uuid) as one row; a leg without bridge_uuid is a conversation by itself. A leg that begins more than 12 hours after the one before it, or after noon of the day after the first, begins a further conversation with the same id. Each leg is in one row, so adding up total_cost over conversations gives the same as over legs.';
comment on column vobiz.conversation.day is 'Day of the first leg in the billing zone.';
comment on column vobiz.conversation.month is 'First day of the month of day.';
comment on column vobiz.conversation.billing_zone is 'The zone in which days are cut (vobiz.setting).';
comment on column vobiz.conversation.account_id is 'Account that owns the legs.';
comment on column vobiz.conversation.customer is 'Customer of the first leg.';
comment on column vobiz.conversation.conversation_id is 'bridge_uuid, else the call_id of the only leg. One that Vobiz uses again later has several rows.';
comment on column vobiz.conversation.legs is 'How many legs.';
comment on column vobiz.conversation.call_ids is 'The legs, by their start.';
comment on column vobiz.conversation.call_direction is 'Direction of the first leg.';
comment on column vobiz.conversation.first_start is 'Start of the first leg.';
comment on column vobiz.conversation.last_end is 'End of the last leg to end.';
comment on column vobiz.conversation.answered is 'Whether a leg was answered (billsec over 0).';
comment on column vobiz.conversation.effective is 'Whether a leg was answered or reached its end in the network (busy, no answer, …).';
comment on column vobiz.conversation.outcome is 'Our grouping of the hangup cause of the first leg.';
comment on column vobiz.conversation.ring_time is 'Seconds until the first leg was answered or ended.';
comment on column vobiz.conversation.post_dial_delay is 'Seconds from the start of the first leg to its ringing.';
comment on column vobiz.conversation.talked_seconds is 'billsec of the longest leg: how long people talked.';
comment on column vobiz.conversation.billsec is 'Sum of billsec over the legs: what is billed.';
comment on column vobiz.conversation.currency is 'Currency, if all legs have the same; else NULL.';
comment on column vobiz.conversation.total_cost is 'Sum of total_cost, before tax, if all legs have one currency; else NULL: see total_cost_by_currency.';
comment on column vobiz.conversation.total_cost_by_currency is 'Sum of total_cost by currency, as JSON.';

create view vobiz.traffic_day as
  select t.day, t.month, t.billing_zone, t.account_id, t.call_direction, t.conversations, t.answered,
         round(100.0 * t.answered / t.conversations, 2) as asr_percent,
         round(100.0 * t.effective / t.conversations, 2) as ner_percent,
         round(t.talked_seconds::numeric / nullif(t.answered, 0), 1) as acd_seconds,
         t.talked_seconds, t.ring_median, t.ring_p95, t.post_dial_delay_median, t.post_dial_delay_p95, t.busy_hour,
         t.busy_hour_conversations,
         (select max(p.running) from (
            select sum(e.step) over (order by e.at, e.step rows unbounded preceding) as running
            from (select c.day_at, coalesce(c.end_time, c.day_at + make_interval(secs => c.duration)) as end_at from vobiz.cdr c
                  where c.account_id = t.account_id and c.call_direction is not distinct from t.call_direction
                    and c.day_at >= b.from_at - interval '12 hours' and c.day_at < b.to_at) l
            cross join lateral (values (greatest(l.day_at, b.from_at), 1), (l.end_at, -1)) e (at, step)
            where l.end_at > l.day_at and l.end_at > b.from_at) p) as peak_legs,
         (select max(p.running) from (
            select sum(e.step) over (order by e.at, e.step rows unbounded preceding) as running
            from (select c.day_at, coalesce(c.end_time, c.day_at + make_interval(secs => c.duration)) as end_at from vobiz.cdr c
                  where c.account_id = t.account_id
                    and c.day_at >= b.from_at - interval '12 hours' and c.day_at < b.to_at) l
            cross join lateral (values (greatest(l.day_at, b.from_at), 1), (l.end_at, -1)) e (at, step)
            where l.end_at > l.day_at and l.end_at > b.from_at) p) as account_peak_legs
  from (
    select h.day, h.month, h.billing_zone, h.account_id, h.call_direction,
           count(*) as conversations,
           count(*) filter (where h.answered) as answered,
           count(*) filter (where h.effective) as effective,
           coalesce(sum(h.talked_seconds) filter (where h.answered), 0)::bigint as talked_seconds,
           round((percentile_cont(0.5) within group (order by h.ring_time))::numeric, 1) as ring_median,
           round((percentile_cont(0.95) within group (order by h.ring_time))::numeric, 1) as ring_p95,
           round((percentile_cont(0.5) within group (order by h.post_dial_delay))::numeric, 1) as post_dial_delay_median,
           round((percentile_cont(0.95) within group (order by h.post_dial_delay))::numeric, 1) as post_dial_delay_p95,
           mode() within group (order by h.hour) filter (where h.in_hour = h.most_in_hour) as busy_hour,
           max(h.in_hour) as busy_hour_conversations
    from (
      select i.*, max(i.in_hour) over (partition by i.day, i.month, i.billing_zone, i.account_id, i.call_direction) as most_in_hour
      from (
        select c.day, c.month, c.billing_zone, c.account_id, c.call_direction, c.answered, c.effective, c.talked_seconds, c.ring_time,
               c.post_dial_delay, extract(hour from c.first_start at time zone c.billing_zone)::int as hour,
               count(*) over (partition by c.day, c.month, c.billing_zone, c.account_id, c.call_direction,
                                           extract(hour from c.first_start at time zone c.billing_zone)::int) as in_hour
        from vobiz.conversation c) i) h
    group by h.day, h.month, h.billing_zone, h.account_id, h.call_direction) t
  -- The fence: once a day, not once a call.
  cross join lateral (
    select vobiz.day_begins(t.day, t.billing_zone) as from_at, vobiz.day_begins(t.day + 1, t.billing_zone) as to_at
    offset 0) b;
comment on view vobiz.traffic_day is 'Traffic of each day by account and direction. Counts conversations, not legs (vobiz.conversation); only the peaks count legs, since each takes a line.';
comment on column vobiz.traffic_day.day is 'Day in the billing zone, by the start of the first leg.';
comment on column vobiz.traffic_day.month is 'First day of the month of day.';
comment on column vobiz.traffic_day.billing_zone is 'The zone in which days are cut (vobiz.setting).';
comment on column vobiz.traffic_day.account_id is 'Account that owns the calls.';
comment on column vobiz.traffic_day.call_direction is 'Direction of the first leg.';
comment on column vobiz.traffic_day.conversations is 'All attempts.';
comment on column vobiz.traffic_day.answered is 'Of these, answered: a leg with billsec over 0.';
comment on column vobiz.traffic_day.asr_percent is 'Answer seizure ratio: answered by conversations, in percent, 2 decimals.';
comment on column vobiz.traffic_day.ner_percent is 'Network effectiveness ratio: answered, busy, no answer, rejected and cancelled (vobiz.hangup_cause.effective) by conversations, in percent, 2 decimals.';
comment on column vobiz.traffic_day.acd_seconds is 'Average call duration: talked_seconds by answered, 1 decimal; NULL without answered ones.';
comment on column vobiz.traffic_day.talked_seconds is 'Seconds talked, of each conversation its longest leg.';
comment on column vobiz.traffic_day.ring_median is 'Seconds until answer or end: the median over conversations that state it, 1 decimal.';
comment on column vobiz.traffic_day.ring_p95 is 'The same: 95 of 100 rang no longer.';
comment on column vobiz.traffic_day.post_dial_delay_median is 'Seconds from start to ringing (progress_time - start_time): the median over conversations that state it, 1 decimal.';
comment on column vobiz.traffic_day.post_dial_delay_p95 is 'The same: 95 of 100 rang sooner.';
comment on column vobiz.traffic_day.busy_hour is 'Hour of the clock, 0 to 23 in the zone, in which most conversations began; the first of several. An hour that the clock shows twice counts as one.';
comment on column vobiz.traffic_day.busy_hour_conversations is 'How many began in it.';
comment on column vobiz.traffic_day.peak_legs is 'Most legs of this direction at one instant, ringing or talking, those of the day before included (12 hours back).';
comment on column vobiz.traffic_day.account_peak_legs is 'The same over both directions: on each row of the day, so never add it up.';

create view vobiz.quality_day as
  select k.day, k.month, k.billing_zone, k.account_id, x.*
  from vobiz.billing_account_day k
  cross join lateral (
    select l.codec, l.trunk_id, l.call_direction,
           count(l.mos) as calls,
           count(*) filter (where l.mos is null) as answered_without_media,
           round(avg(l.mos), 3) as mos_mean,
           round((percentile_cont(0.5) within group (order by l.mos))::numeric, 2) as mos_median,
           round((percentile_cont(0.05) within group (order by l.mos))::numeric, 2) as mos_p5,
           min(l.mos) as mos_min,
           round(100.0 * count(*) filter (where l.mos < 3.5) / nullif(count(l.mos), 0), 2) as poor_percent,
           round((percentile_cont(0.5) within group (order by l.jitter))::numeric, 2) as jitter_median,
           round((percentile_cont(0.95) within group (order by l.jitter))::numeric, 2) as jitter_p95,
           round((percentile_cont(0.5) within group (order by l.packet_loss))::numeric, 3) as packet_loss_median,
           round((percentile_cont(0.95) within group (order by l.packet_loss))::numeric, 3) as packet_loss_p95,
           max(l.packet_loss) as packet_loss_max
    from vobiz.leg l
    where l.account_id = k.account_id and l.day_at >= k.from_at and l.day_at < k.to_at and (l.answered or l.mos is not null)
    group by l.codec, l.trunk_id, l.call_direction) x;
comment on view vobiz.quality_day is 'Voice quality of each day by codec, trunk and direction, over the legs that carried media (mos over 0): Vobiz says 0 where there was none, which is not bad quality.';
comment on column vobiz.quality_day.day is 'Day in the billing zone, from its midnight up to the next.';
comment on column vobiz.quality_day.month is 'First day of the month of day.';
comment on column vobiz.quality_day.billing_zone is 'The zone in which days are cut (vobiz.setting).';
comment on column vobiz.quality_day.account_id is 'Account that owns the calls.';
comment on column vobiz.quality_day.codec is 'PCMU, PCMA, opus, …';
comment on column vobiz.quality_day.trunk_id is 'Trunk; NULL for voice API calls.';
comment on column vobiz.quality_day.call_direction is 'inbound or outbound.';
comment on column vobiz.quality_day.calls is 'Legs that carried media: the denominator of all that follows but the next column.';
comment on column vobiz.quality_day.answered_without_media is 'Legs that were answered and have no quality.';
comment on column vobiz.quality_day.mos_mean is 'Mean opinion score, 1 to 5: the mean, 3 decimals.';
comment on column vobiz.quality_day.mos_median is 'The median, 2 decimals.';
comment on column vobiz.quality_day.mos_p5 is '5 of 100 legs were worse.';
comment on column vobiz.quality_day.mos_min is 'The worst.';
comment on column vobiz.quality_day.poor_percent is 'Legs with mos under 3.5, in percent, 2 decimals.';
comment on column vobiz.quality_day.jitter_median is 'Jitter in milliseconds: the median.';
comment on column vobiz.quality_day.jitter_p95 is '95 of 100 legs had less.';
comment on column vobiz.quality_day.packet_loss_median is 'Packet loss in percent: the median.';
comment on column vobiz.quality_day.packet_loss_p95 is '95 of 100 legs had less.';
comment on column vobiz.quality_day.packet_loss_max is 'The worst.';

-- ---------------------------------------------------------------------------------------------------------------------
-- Calls for those who need not know who spoke.

create table vobiz.mask_key (
  only_row boolean primary key default true check (only_row),
  key      bytea not null check (length(key) = 32)
);
insert into vobiz.mask_key (key)
  values (sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')));
comment on table  vobiz.mask_key is 'The secret of the hashes in vobiz.cdr_masked, made at random in each database. Whoever reads it can find the number behind a hash by trying all. Changing it changes all hashes.';
comment on column vobiz.mask_key.only_row is 'Always true: holds the table to one row.';
comment on column vobiz.mask_key.key is '32 random bytes.';

create view vobiz.cdr_masked as
  select l.call_id, l.account_id, l.customer, l.day, l.billing_zone, l.day_at, l.call_direction,
         case when l.our_number ~ '^\+\d{7,15}$' then right(l.our_number, 4) end as our_number_end,
         case when l.other_number ~ '^\+\d{7,15}$' then right(l.other_number, 4) end as other_number_end,
         left(encode(sha256((select m.key from vobiz.mask_key m)
                            || sha256((select m.key from vobiz.mask_key m) || convert_to(l.our_number, 'UTF8'))), 'hex'), 32) as our_number_hash,
         left(encode(sha256((select m.key from vobiz.mask_key m)
                            || sha256((select m.key from vobiz.mask_key m) || convert_to(l.other_number, 'UTF8'))), 'hex'), 32) as other_number_hash,
         -- With the last four digits, a prefix of a few numbers would show who it is.
         case when length(l.destination_e164) >= length(l.prefix) + 8 then l.prefix
              else (select p.prefix from vobiz.prefix p
                    where p.prefix = any (array(select left(l.destination_e164, n) from generate_series(2, 9) n))
                      and length(l.destination_e164) >= length(p.prefix) + 8
                    order by length(p.prefix) desc limit 1) end as prefix,
         l.trunk_id, l.campaign_id, l.context, l.region, l.origination_region,
         l.start_time, l.progress_time, l.answer_time, l.end_time, l.duration, l.billsec, l.ring_time, l.answered, l.pulse_minutes,
         l.cost, l.streaming_cost, l.total_cost, l.currency, l.hangup_cause, l.hangup_cause_code, l.hangup_name, l.outcome,
         l.hangup_source, l.bridge_uuid, l.codec, l.mos, l.jitter, l.packet_loss, l.origin, l.stored_at, l.revision
  from vobiz.leg l;
comment on view vobiz.cdr_masked is 'The calls without who spoke: numbers cut to their last four digits and hashed, no names, SIP ids, addresses, and nothing of the raw record. Pseudonymous, not anonymous: whoever knows when somebody called may find the call.';
do $$
declare
  described record;
begin
  for described in
    select m.attname, col_description(l.attrelid, l.attnum) as words
    from pg_catalog.pg_attribute m join pg_catalog.pg_attribute l on l.attrelid = 'vobiz.leg'::regclass and l.attname = m.attname
    where m.attrelid = 'vobiz.cdr_masked'::regclass
  loop
    execute format('comment on column vobiz.cdr_masked.%I is %L', described.attname, described.words);
  end loop;
end $$;
comment on column vobiz.cdr_masked.our_number_end is 'Last four digits of the number on our side; NULL where it is no phone number.';
comment on column vobiz.cdr_masked.other_number_end is 'Last four digits of the number on the other side; NULL where it is no phone number.';
comment on column vobiz.cdr_masked.our_number_hash is 'Keyed hash of the number on our side: the same number has the same hash, so repeats can be counted.';
comment on column vobiz.cdr_masked.other_number_hash is 'The same for the other side.';
comment on column vobiz.cdr_masked.prefix is 'Longest match of the number that was called in vobiz.prefix that leaves eight digits or more; NULL without one.';

-- ---------------------------------------------------------------------------------------------------------------------
-- The one thing that the service does to the schema while it runs, for a role that does not own it (vobiz_app).

create function vobiz.make_partition(parent text, month date) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp
  as $$
  declare
    first date := date_trunc('month', month::timestamp)::date;
    after date := (date_trunc('month', month::timestamp) + interval '1 month')::date;
    name  text := format('%s_%s', parent, to_char(month, 'YYYY_MM'));
  begin
    if parent not in ('callback', 'cdr_revision') then
      raise exception 'vobiz.% has no partitions', parent using errcode = 'invalid_parameter_value';
    end if;
    execute format('create table if not exists vobiz.%I (like vobiz.%I including defaults including constraints)', name, parent);
    execute format('comment on table vobiz.%I is %L', name,
                   format('Partition of vobiz.%s: %s (UTC).', parent, to_char(month, 'FMMonth YYYY')));
    execute format('alter table vobiz.%I attach partition vobiz.%I for values from (%L) to (%L)', parent, name,
                   first || ' 00:00:00+00', after || ' 00:00:00+00');
  end $$;
comment on function vobiz.make_partition(text, date) is 'Makes the partition of a month of vobiz.callback or vobiz.cdr_revision, with the rights of their owner.';

-- What acts with the rights of its owner is nobody's to call but by grant. Triggers need none: whoever may write the table fires them.
do $$
declare
  definer regprocedure;
begin
  for definer in select oid from pg_catalog.pg_proc where pronamespace = 'vobiz'::regnamespace and prosecdef loop
    execute format('revoke execute on function %s from public', definer);
  end loop;
end $$;
